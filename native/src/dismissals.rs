//! When calls are told that they end without an answer: a few at a time. Whoever is refused may call again at once, and
//! where thousands are refused in one moment, thousands come again in the next.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const APART: Duration = Duration::from_micros(1_500);
const LONGEST: Duration = Duration::from_secs(15);
const GROUPS: usize = 4_096;

/// A moment for each, by group: its calls are told one after another, so that it has others wait for no more than one.
#[derive(Default)]
pub struct Dismissals {
    next: Mutex<HashMap<Arc<str>, Instant>>,
}

impl Dismissals {
    /// How long a call of this group waits for its end. None where so many wait that it ends at once.
    pub fn pause(&self, group: &Arc<str>, now: Instant) -> Option<Duration> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.len() >= GROUPS {
            next.retain(|_, moment| *moment > now);
        }
        if next.len() >= GROUPS && !next.contains_key(group) {
            return None;
        }
        let moment = next.get(group).map_or(now, |moment| (*moment).max(now)) + APART;
        let pause = moment.saturating_duration_since(now);
        if pause > LONGEST {
            return None;
        }
        next.insert(group.clone(), moment);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_group_end_one_after_another_and_those_of_others_beside_them() {
        let dismissals = Dismissals::default();
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        let now = Instant::now();
        assert_eq!(dismissals.pause(&one, now), Some(APART));
        assert_eq!(dismissals.pause(&one, now), Some(2 * APART));
        assert_eq!(dismissals.pause(&other, now), Some(APART));
        assert_eq!(dismissals.pause(&one, now + 10 * APART), Some(APART));
    }

    #[test]
    fn who_would_wait_for_too_long_ends_at_once() {
        let dismissals = Dismissals::default();
        let (one, now): (Arc<str>, Instant) = ("one".into(), Instant::now());
        let waits = (0..20_000).filter(|_| dismissals.pause(&one, now).is_some()).count();
        assert_eq!(waits, 10_000);
    }
}
