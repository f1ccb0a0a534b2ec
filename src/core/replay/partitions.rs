//! Lists of partitions, as `0,3-5`.
use std::collections::BTreeSet;
use std::str::FromStr;

/// Each partition once, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitions(pub Vec<i32>);

impl FromStr for Partitions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no list of partitions, such as 0,3-5");
        let number = |t: &str| t.parse::<i32>().ok().filter(|n| (0..100_000).contains(n)).ok_or_else(wrong);
        let mut all = BTreeSet::new();
        for part in text.split(',') {
            match part.split_once('-') {
                Some((from, to)) => {
                    let (from, to) = (number(from)?, number(to)?);
                    if from > to {
                        return Err(wrong());
                    }
                    all.extend(from..=to);
                }
                None => _ = all.insert(number(part)?),
            }
        }
        Ok(Self(all.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_name_each_partition_once() {
        assert_eq!(Partitions::from_str("3-5,0,4").unwrap().0, [0, 3, 4, 5]);
        for wrong in ["", "a", "5-3", "-1", "0,", "1-2-3", "0-99999999"] {
            assert!(Partitions::from_str(wrong).is_err(), "{wrong}");
        }
    }
}
