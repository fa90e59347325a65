//! Text for people: spans of time.

/// A span of time in at most two units: `850 ms`, `12 s`, `3 m 20 s`, `2 h 5 m`, `4 d 3 h`
pub fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} m {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn two_units_at_most() {
        let told = [850, 12_999, 200_000, 7_500_000, 356_400_000].map(age);
        assert_eq!(told, ["850 ms", "12 s", "3 m 20 s", "2 h 5 m", "4 d 3 h"]);
    }
}
