//! The indexes of keys stay as large as the data: keys without any are taken out, though nobody lists them. A walk goes through
//! each index page by page, and through a page of which much is gone at once to the next one: so it keeps up with keys that live
//! for a short time, and costs next to nothing where all have data.
use super::Api;
use super::read::Listed;
use crate::core::state::StateKey;
use std::sync::Arc;
use std::time::Duration;

/// Keys of a page.
const KEYS_MAX: usize = 500;
/// Of a page so many with data are most.
const MOST: usize = KEYS_MAX * 9 / 10;
/// Between two pages; where much of one is gone, less.
const EVERY: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(20);

/// A walk through an index.
struct Walk {
    offer: usize,
    index: StateKey,
    /// The last key that was looked at.
    after: Option<Vec<u8>>,
}

/// Walks, while the server runs.
pub(super) async fn run(api: Arc<Api>) {
    let walk = |(offer, index): (usize, &StateKey)| Walk { offer, index: index.clone(), after: None };
    let mut walks: Vec<Walk> = api.offers.iter().enumerate().filter_map(|(n, offer)| Some(walk((n, offer.index.as_ref()?)))).collect();
    let (mut pause, mut told) = (EVERY, false);
    while !walks.is_empty() {
        tokio::time::sleep(pause).await;
        pause = EVERY;
        for walk in &mut walks {
            // While Redis is away the place is kept.
            let Ok(Listed { keys, next, stays }) = api.listed(&api.offers[walk.offer], &walk.index, walk.after.clone(), KEYS_MAX).await else { continue };
            match stays {
                Some(why) if !told => {
                    told = true;
                    tracing::warn!(code = "index-grows", index = %String::from_utf8_lossy(&walk.index.0), "keys without data can't be taken out of the lists of keys, which so grow: {why:?}");
                }
                None if next.is_some() && keys.len() < MOST => pause = SOON,
                _ => {}
            }
            walk.after = next;
        }
    }
}
