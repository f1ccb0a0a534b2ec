//! How many bytes wake a reader: `SO_RCVLOWAT` (socket(7)). Redis answers a transaction piece by piece as it reads it, some ten
//! pieces for one of 200 records of three writes; a reader that wakes at each costs both sides a switch and the kernel a signal to another
//! core. Woken a third as often, the bridge took 1.37 us a record in place of 1.57, Redis 2.85 in place of 3.00, and a drain
//! reached 0.97 of the ceiling in place of 0.90 (three turns of 700,000 ticks, two cores, 2026-11-27).
//!
//! The only unsafe code of the project, since no well-kept crate has this option. It is sound: the call reads one `c_int` that
//! lives through it, and the descriptor is borrowed from a socket that lives as long.
use std::ffi::c_int;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;

/// Has a read of the socket sleep until so many bytes are there; one that has taken some before it slept, until so many more are:
/// who knows what comes takes half of that at most. It ends before, with what came, if its time is over or the line is closed.
///
/// # Errors
/// The kernel's, where it does not know the option.
#[allow(unsafe_code)]
pub(super) fn set(socket: &TcpStream, bytes: usize) -> io::Result<()> {
    let mark = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    let length = libc::socklen_t::try_from(size_of::<c_int>()).expect("four");
    // SAFETY: the option's value is a c_int, and `mark` is one of that length.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, (&raw const mark).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::set;
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    fn line() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        there.set_nodelay(true).unwrap();
        (listener.accept().unwrap().0, there)
    }

    #[test]
    fn a_read_sleeps_until_the_mark_is_reached() {
        let (mut here, mut there) = line();
        set(&here, 3000).unwrap();
        let writer = std::thread::spawn(move || {
            (0..60).for_each(|_| there.write_all(&[7; 100]).unwrap());
            there
        });
        let mut taken = here.read(&mut [0; 8192]).unwrap();
        assert!(taken >= 3000, "one read, thirty pieces at least");
        // Back to the usual: whatever is there.
        set(&here, 1).unwrap();
        writer.join().unwrap().write_all(b"x").unwrap();
        while taken < 6001 {
            taken += here.read(&mut [0; 8192]).unwrap();
        }
    }

    #[test]
    fn the_end_of_the_line_and_of_the_time_are_below_the_mark() {
        let (mut here, mut there) = line();
        set(&here, 3000).unwrap();
        here.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert_eq!(here.read(&mut [0; 4096]).unwrap_err().kind(), ErrorKind::WouldBlock, "nothing came in its time");
        there.write_all(b"piece").unwrap();
        assert_eq!(here.read(&mut [0; 4096]).unwrap(), 5, "what came in its time");
        there.write_all(b"last").unwrap();
        drop(there);
        here.set_read_timeout(None).unwrap();
        assert_eq!((here.read(&mut [0; 4096]).unwrap(), here.read(&mut [0; 4096]).unwrap()), (4, 0));
    }
}
