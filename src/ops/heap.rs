//! Large buffers are mapped on their own, and go back to the kernel when they are freed (glibc: mallopt(3)).
//!
//! That is glibc's beginning, too, but with each such buffer that is freed it takes larger ones from its arenas, up to 32 MiB, and
//! gives arenas back later. librdkafka's fetches, and what it unpacks them into, then lie between the records that were unpacked
//! from others, and what is free between them stays with the process: with 256 partitions it took 97 MiB, of which 17 were in use.
//! With the threshold held where it begins it takes 38, with 8 partitions 36 in place of 38; its time a record differs by less than
//! from turn to turn (1,000,000 ticks a drain, four turns each, 2026-11-27).
//!
//! Unsafe, since no well-kept crate has this call. It is sound: it takes two numbers, and an allocator's lock.

/// From how many bytes on a buffer is mapped on its own: glibc's beginning.
const LARGE: libc::c_int = 128 << 10;

/// Holds the threshold where it is, for the process. Before threads start: what they freed may have moved it by then.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn map_large_buffers() {
    // SAFETY: mallopt takes numbers alone, and may be called at any time. One that refuses changes nothing.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
}

/// Other allocators than glibc's have no such threshold that moves.
#[cfg(not(target_env = "gnu"))]
pub fn map_large_buffers() {}

#[cfg(all(test, target_env = "gnu", target_pointer_width = "64"))]
mod tests {
    use super::{LARGE, map_large_buffers};

    /// glibc's chunk of a mapping of its own begins with it, after a header of two words.
    fn is_mapped(buffer: &[u8]) -> bool {
        buffer.as_ptr().addr() % 4096 == 16
    }

    #[test]
    fn a_large_buffer_is_mapped_on_its_own_though_larger_ones_were_freed() {
        // More than any arena has free.
        const HUGE: usize = 16 << 20;
        map_large_buffers();
        drop(vec![1u8; HUGE + LARGE as usize]);
        let buffers = [vec![0; HUGE], vec![0; HUGE]];
        assert!(buffers.iter().all(|b| is_mapped(b)));
    }
}
