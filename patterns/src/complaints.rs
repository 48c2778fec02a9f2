//! Counting what is dropped, and saying so now and then rather than every time.

/// How often something happened; logged the first time and at every tenfold after that.
#[derive(Debug, Default)]
pub struct Complaints {
    count: u64,
    next_report: u64,
}

impl Complaints {
    /// Counts one more, and logs `what` happened when it is time.
    pub fn add(&mut self, place: &dyn std::fmt::Display, what: &dyn std::fmt::Display) {
        self.count += 1;
        if self.count >= self.next_report {
            self.next_report = self.count.saturating_mul(10);
            log::warn!("{place}: {what} ({} so far)", self.count);
        }
    }

    /// How often it happened.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_become_rare() {
        let mut complaints = Complaints::default();
        let mut reports = Vec::new();
        for i in 1..=1_000 {
            let before = complaints.next_report;
            complaints.add(&"here", &"it happened");
            if complaints.next_report != before {
                reports.push(i);
            }
        }
        assert_eq!(reports, [1, 10, 100, 1_000]);
    }
}
