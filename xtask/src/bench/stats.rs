//! Medians, and how sure they are.

/// Resamples for an interval: its ends then move by less than they are shown to.
const RESAMPLES: usize = 4_000;

/// The middle.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// This share of the values is at most the result.
pub(super) fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of the list")]
    let at = (last as f64 * percent / 100.0).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// The interval that holds the median with 95 %, by bootstrap: the medians of many draws with replacement.
pub(super) fn ci95(values: &[f64]) -> (f64, f64) {
    // A generator of its own with a fixed seed: the same values give the same interval.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        values[usize::try_from(state % values.len() as u64).unwrap_or(0)]
    };
    let medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sample: Vec<f64> = values.iter().map(|_| draw()).collect();
            median(&sample)
        })
        .collect();
    (percentile(&medians, 2.5), percentile(&medians, 97.5))
}

/// How much `y` grows with one more `x`: the line of least squares.
pub(super) fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (mean_x, mean_y) =
        (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let over: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    over / points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn an_interval_holds_the_median_and_is_narrow_for_steady_values() {
        let values: Vec<f64> = (0..101).map(f64::from).collect();
        let (low, high) = ci95(&values);
        assert!(low < 50.0 && 50.0 < high && high - low < 40.0, "{low} {high}");
        assert_eq!(ci95(&[7.0; 11]), (7.0, 7.0));
    }

    #[test]
    fn a_slope_is_found_through_noise() {
        let points: Vec<(f64, f64)> = (0..10).map(|x| (f64::from(x), 5.0 + 2.0 * f64::from(x))).collect();
        assert!((slope(&points) - 2.0).abs() < 1e-9);
    }
}
