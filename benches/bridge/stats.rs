//! Medians with their spread, and percentiles.
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Above this share of the median the spread is too wide to tell anything.
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

    /// Whether the median can be relied on.
    fn tells(&self) -> bool {
        self.max - self.min <= SPREAD_MAX * self.median
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, min, max, times } = self;
        write!(f, "{median:.2}")?;
        match times {
            1 => f.write_str(" (once)"),
            _ if self.tells() => write!(f, " ({min:.2}..{max:.2})"),
            _ => write!(f, " ({min:.2}..{max:.2}: too wide to tell)"),
        }
    }
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
    /// `None` where there are none.
    pub(crate) fn of(times: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut ms: Vec<f64> = times.into_iter().map(|t| t.as_secs_f64() * 1000.0).collect();
        ms.sort_by(f64::total_cmp);
        let at = |share: f64| ms[((ms.len() as f64 * share) as usize).min(ms.len() - 1)];
        (!ms.is_empty()).then(|| Self { count: ms.len(), p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) })
    }
}
