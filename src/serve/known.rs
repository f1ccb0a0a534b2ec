//! The last known answers, for when Redis is away: `stale = "allow"`. Bounded: two generations, of which the younger one
//! becomes the older when it is full, and the older one is forgotten.
use super::answer::Page;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// Bytes of one generation at most.
const BYTES_MAX: usize = 16 << 20;
/// What an answer costs beside its bytes.
const COST: usize = 256;

#[derive(Default)]
struct Generations {
    young: HashMap<String, (Arc<Page>, Instant)>,
    old: HashMap<String, (Arc<Page>, Instant)>,
    bytes: usize,
}

/// See the module's documentation.
#[derive(Default)]
pub struct Known(Mutex<Generations>);

impl Known {
    /// Keeps the answer to a request.
    pub fn keep(&self, request: &str, page: Arc<Page>) {
        let mut all = self.0.lock();
        let cost = COST + request.len() + page.body.len();
        if all.bytes + cost > BYTES_MAX {
            all.old = std::mem::take(&mut all.young);
            all.bytes = 0;
        }
        all.bytes += cost;
        if let Some((before, _)) = all.young.insert(request.to_owned(), (page, Instant::now())) {
            all.bytes -= COST + request.len() + before.body.len();
        }
    }

    /// The last known answer and its age in seconds.
    pub fn get(&self, request: &str) -> Option<(Arc<Page>, u64)> {
        let all = self.0.lock();
        let (page, at) = all.young.get(request).or_else(|| all.old.get(request))?;
        Some((page.clone(), at.elapsed().as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_bounded_and_the_last_is_there() {
        let known = Known::default();
        let page = |n: usize| Arc::new(Page { body: vec![0; 1 << 20], content: "text/plain", next: Some(n.to_string()) });
        for n in 0..100 {
            known.keep(&n.to_string(), page(n));
        }
        let all = known.0.lock();
        assert!(all.young.len() + all.old.len() <= 32, "{} and {}", all.young.len(), all.old.len());
        drop(all);
        assert!(known.get("99").is_some() && known.get("0").is_none());
    }

    #[test]
    fn an_answer_that_grows_counts_with_what_it_has_become() {
        let known = Known::default();
        let page = |bytes| Arc::new(Page { body: vec![0; bytes], content: "text/plain", next: None });
        for bytes in [0, 1 << 20] {
            (0..100).for_each(|n: u32| known.keep(&n.to_string(), page(bytes)));
        }
        let all = known.0.lock();
        let held: usize = all.young.values().chain(all.old.values()).map(|(page, _)| page.body.len()).sum();
        assert!(held <= 2 * BYTES_MAX, "{held}");
    }
}
