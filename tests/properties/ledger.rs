//! The ledger's algebra, against a set of offsets.
use kafka_redis_bridge::core::ledger::Ledger;
use proptest::prelude::*;
use std::collections::BTreeSet;

proptest! {
    #![proptest_config(crate::cases(1000))]

    #[test]
    fn each_offset_is_settled_once_and_the_settled_ones_are_a_prefix(start in -3i64..100, ranges in proptest::collection::vec((-2i64..3, -1i64..6), 0..40)) {
        let mut ledger = Ledger::new(start);
        let mut settled = BTreeSet::new();
        for (gap, len) in ranges {
            let before = ledger.clone();
            let range = ledger.position() + gap..ledger.position() + gap + len;
            let new: BTreeSet<i64> = range.clone().collect();
            let continues = gap == 0 && len >= 0;
            match ledger.settle(range.clone()) {
                Ok(()) => {
                    prop_assert!(continues, "{:?} was taken at {}", range, before.position());
                    prop_assert!(settled.is_disjoint(&new));
                    settled.extend(new);
                }
                Err(refused) => {
                    prop_assert!(!continues, "{:?} was refused at {}", range, before.position());
                    prop_assert_eq!((refused.position, refused.range), (before.position(), range));
                    prop_assert_eq!(&ledger, &before, "a refused range left something behind");
                }
            }
            prop_assert_eq!(&settled, &(start..ledger.position()).collect());
        }
    }

    #[test]
    fn it_does_not_matter_in_how_many_pieces_a_range_is_settled(start: i32, lens in proptest::collection::vec(0i64..1000, 0..20)) {
        let (mut pieces, mut whole) = (Ledger::new(start.into()), Ledger::new(start.into()));
        for len in &lens {
            pieces.settle(pieces.position()..pieces.position() + len).unwrap();
        }
        whole.settle(i64::from(start)..i64::from(start) + lens.iter().sum::<i64>()).unwrap();
        prop_assert_eq!(pieces, whole);
    }
}
