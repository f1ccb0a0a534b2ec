//! Medians with their spread, and percentiles.
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Above this share of the median, or of another yardstick, the spread is too wide to tell anything.
const SPREAD_MAX: f64 = 0.2;

/// The same thing measured several times.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// How often.
    pub(crate) times: usize,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first().unwrap(), values.last().unwrap());
        let half = values.len() / 2;
        let median = if values.len().is_multiple_of(2) { f64::midpoint(values[half - 1], values[half]) } else { values[half] };
        Self { median, min, max, times: values.len() }
    }

    /// As a text. It is too wide to tell by the yardstick, or by the median where that is larger: a difference may be near 0,
    /// of which a share says nothing.
    pub(crate) fn against(&self, yardstick: f64) -> String {
        let Self { median, min, max, times } = self;
        match times {
            1 => format!("{median:.2} (once)"),
            _ if max - min <= SPREAD_MAX * median.max(yardstick) => format!("{median:.2} ({min:.2}..{max:.2})"),
            _ => format!("{median:.2} ({min:.2}..{max:.2}: too wide to tell)"),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.against(self.median))
    }
}

/// Each of some figures, over the turns.
pub(crate) fn spreads<const N: usize>(turns: impl IntoIterator<Item = [f64; N]>) -> [Spread; N] {
    let turns: Vec<[f64; N]> = turns.into_iter().collect();
    std::array::from_fn(|n| Spread::of(turns.iter().map(|t| t[n])))
}

/// Thousands of something a second.
pub(crate) fn thousands(values: impl IntoIterator<Item = f64>) -> String {
    format!("{:.0}k", Spread::of(values).median / 1000.0)
}

/// The median alone.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    Spread::of(values).median
}

/// How times are spread, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Times {
    pub(crate) count: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Times {
    /// What the figures are called, in their order.
    pub(crate) const HEAD: [&str; 4] = ["p50 ms", "p99 ms", "p99.9 ms", "max ms"];

    pub(crate) fn figures(&self) -> [f64; 4] {
        [self.p50, self.p99, self.p999, self.max]
    }

    /// `None` where there are none.
    pub(crate) fn of(times: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut ms: Vec<f64> = times.into_iter().map(|t| t.as_secs_f64() * 1000.0).collect();
        ms.sort_by(f64::total_cmp);
        let at = |share: f64| ms[((ms.len() as f64 * share) as usize).min(ms.len() - 1)];
        (!ms.is_empty()).then(|| Self { count: ms.len(), p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) })
    }
}
