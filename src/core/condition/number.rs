//! Numbers as conditions compare and calculate with them: whole ones exactly, others as the nearest double.
use std::cmp::Ordering;
use std::fmt;

/// Never NaN, never infinite.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// Written without fraction and exponent, up to 2^127.
    Whole(i128),
    Decimal(f64),
}

/// An arithmetic operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Plus,
    Minus,
    Times,
    Over,
    Modulo,
}

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undefined {
    DivisionByZero,
    TooLarge,
}

impl Number {
    /// Reads a number of JSON; `None`: it lies beyond what a double can hold.
    #[inline]
    pub fn read(json: &str) -> Option<Self> {
        let (negative, digits) = json.strip_prefix('-').map_or((false, json), |rest| (true, rest));
        if digits.len() <= 18 && digits.bytes().all(|b| b.is_ascii_digit()) {
            let whole = digits.bytes().fold(0i64, |n, b| n * 10 + i64::from(b - b'0'));
            return Some(Self::Whole(i128::from(if negative { -whole } else { whole })));
        }
        Self::read_long(json)
    }

    fn read_long(json: &str) -> Option<Self> {
        if let Ok(whole) = json.parse::<i128>() {
            return Some(Self::Whole(whole));
        }
        json.parse().ok().filter(|d: &f64| d.is_finite()).map(Self::Decimal)
    }

    #[allow(clippy::cast_precision_loss, reason = "what this is for")]
    fn nearest(self) -> f64 {
        match self {
            Self::Whole(w) => w as f64,
            Self::Decimal(d) => d,
        }
    }

    /// The sum, difference, product, quotient or remainder (which has the sign of the dividend). Whole while it is whole
    /// and fits.
    ///
    /// # Errors
    /// It divides by zero, or the result lies beyond what a double can hold.
    pub fn calculate(self, operator: Operator, other: Self) -> Result<Self, Undefined> {
        let divides = matches!(operator, Operator::Over | Operator::Modulo);
        if divides && other.cmp(&Self::Whole(0)) == Ordering::Equal {
            return Err(Undefined::DivisionByZero);
        }
        if let (Self::Whole(a), Self::Whole(b)) = (self, other) {
            let exact = match operator {
                Operator::Plus => a.checked_add(b),
                Operator::Minus => a.checked_sub(b),
                Operator::Times => a.checked_mul(b),
                Operator::Over => a.checked_div(b).filter(|q| q.checked_mul(b) == Some(a)),
                Operator::Modulo => Some(a.checked_rem(b).unwrap_or(0)),
            };
            if let Some(whole) = exact {
                return Ok(Self::Whole(whole));
            }
        }
        let (a, b) = (self.nearest(), other.nearest());
        let result = match operator {
            Operator::Plus => a + b,
            Operator::Minus => a - b,
            Operator::Times => a * b,
            Operator::Over => a / b,
            Operator::Modulo => a % b,
        };
        if result.is_finite() { Ok(Self::Decimal(result)) } else { Err(Undefined::TooLarge) }
    }

    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Self::Whole(w) => w.checked_neg().map_or_else(|| Self::Decimal(-self.nearest()), Self::Whole),
            Self::Decimal(d) => Self::Decimal(-d),
        }
    }

    #[must_use]
    pub fn absolute(self) -> Self {
        if self.cmp(&Self::Whole(0)) == Ordering::Less { self.negated() } else { self }
    }
}

/// By what they are, not by how they are written: 1 equals 1.0.
impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (*self, *other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(&b),
            // No NaN is here.
            (Self::Decimal(a), Self::Decimal(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Self::Whole(w), Self::Decimal(d)) => whole_with_decimal(w, d),
            (Self::Decimal(d), Self::Whole(w)) => whole_with_decimal(w, d).reverse(),
        }
    }
}

/// Exactly: neither is rounded.
fn whole_with_decimal(whole: i128, decimal: f64) -> Ordering {
    const BEYOND: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    if decimal >= BEYOND {
        return Ordering::Less;
    }
    if decimal < -BEYOND {
        return Ordering::Greater;
    }
    let below = decimal.trunc();
    whole.cmp(&(below as i128)).then_with(|| below.partial_cmp(&decimal).unwrap_or(Ordering::Equal))
}

/// As a condition writes it.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(w) => write!(f, "{w}"),
            Self::Decimal(d) => write!(f, "{d:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(text: &str) -> Number {
        Number::read(text).unwrap()
    }

    #[test]
    fn numbers_are_ordered_by_what_they_are_beyond_what_a_double_can_tell() {
        let ascending = [
            "-1e300",
            "-170141183460469231731687303715884105728",
            "-9007199254740993",
            "-9007199254740992",
            "-1",
            "-0.5",
            "0",
            "0.1",
            "1",
            "1.5",
            "4503599627370495.5",
            "9007199254740992",
            "9007199254740993",
            "18446744073709551615",
            "18446744073709551616",
            "170141183460469231731687303715884105727",
            "1.8e38",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(n(a).cmp(&n(b)), i.cmp(&j), "{a} and {b}");
            }
        }
        for (a, b) in [("1", "1.0"), ("-0", "0.0"), ("0", "-0.0"), ("100", "1E2"), ("9007199254740992", "9007199254740992.0"), ("0.10", "1e-1")] {
            assert_eq!(n(a), n(b), "{a} and {b}");
        }
        assert!(Number::read("1e999").is_none());
    }

    #[test]
    fn whole_numbers_stay_whole_while_they_fit_and_nothing_comes_out_that_is_no_number() {
        let max = "170141183460469231731687303715884105727";
        let min = "-170141183460469231731687303715884105728";
        for (a, operator, b, result) in [
            ("9007199254740993", Operator::Plus, "1", "9007199254740994"),
            ("6", Operator::Over, "3", "2"),
            ("1", Operator::Over, "4", "0.25"),
            ("-7", Operator::Modulo, "3", "-1"),
            ("7.5", Operator::Modulo, "2", "1.5"),
            (max, Operator::Plus, "1", "1.7014118346046923e38"),
            (min, Operator::Over, "-1", "1.7014118346046923e38"),
            (min, Operator::Modulo, "-1", "0"),
            ("0.1", Operator::Plus, "0.2", "0.30000000000000004"),
        ] {
            assert_eq!(n(a).calculate(operator, n(b)), Ok(n(result)), "{a} {operator:?} {b}");
        }
        for (a, operator, b, why) in [
            ("1", Operator::Over, "0", Undefined::DivisionByZero),
            ("0.0", Operator::Over, "-0.0", Undefined::DivisionByZero),
            ("1", Operator::Modulo, "0.0", Undefined::DivisionByZero),
            ("1e308", Operator::Times, "10", Undefined::TooLarge),
            ("-1e308", Operator::Minus, "1e308", Undefined::TooLarge),
            ("1e300", Operator::Over, "1e-300", Undefined::TooLarge),
        ] {
            assert_eq!(n(a).calculate(operator, n(b)), Err(why), "{a} {operator:?} {b}");
        }
        assert_eq!(n(min).negated(), n("1.7014118346046923e38"));
        assert_eq!((n("-3").absolute(), n("3.5").absolute()), (n("3"), n("3.5")));
    }
}
