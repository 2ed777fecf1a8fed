//! A bounded number of places that nobody can take for themselves: when none is free, the oldest holder of the group
//! that has the most gives way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Which place somebody holds: who comes later has a higher one.
pub type Ticket = u64;

struct Holder<T> {
    group: Arc<str>,
    since: Instant,
    held: T,
}

struct State<T> {
    holders: BTreeMap<Ticket, Holder<T>>,
    groups: HashMap<Arc<str>, BTreeSet<Ticket>>,
}

/// Who holds a place, by group, in order of coming.
pub struct Places<T> {
    limit: usize,
    state: Mutex<State<T>>,
}

impl<T> Places<T> {
    /// So many places.
    pub fn new(limit: usize) -> Self {
        let state = State { holders: BTreeMap::new(), groups: HashMap::new() };
        Self { limit, state: Mutex::new(state) }
    }

    /// Gives a place. Answers who had to give way and holds none any more, where somebody had to.
    pub fn enter(&self, ticket: Ticket, group: &Arc<str>, held: T) -> Option<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.holders.insert(ticket, Holder { group: group.clone(), since: Instant::now(), held });
        state.groups.entry(group.clone()).or_default().insert(ticket);
        if state.holders.len() <= self.limit {
            return None;
        }
        state.greediest().and_then(|one| state.remove(one))
    }

    /// Frees the place; nothing where it had been taken away.
    pub fn leave(&self, ticket: Ticket) -> Option<T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).remove(ticket)
    }

    /// Takes away the places of all who have come before a moment.
    pub fn overdue(&self, moment: Instant) -> Vec<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let late = state.before(moment);
        late.into_iter().filter_map(|ticket| state.remove(ticket)).collect()
    }

    /// Takes places away until no more than `limit` hold one of before a moment: the oldest of the groups that have the
    /// most of them.
    pub fn surplus(&self, limit: usize, moment: Instant) -> Vec<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let old = state.before(moment);
        if old.len() <= limit {
            return Vec::new();
        }
        let mut groups: BTreeMap<Arc<str>, std::collections::VecDeque<Ticket>> = BTreeMap::new();
        for ticket in &old {
            groups.entry(state.holders[ticket].group.clone()).or_default().push_back(*ticket);
        }
        let mut taken = Vec::new();
        for _ in limit..old.len() {
            let largest = groups.values_mut().max_by_key(|tickets| tickets.len());
            let ticket = largest.and_then(std::collections::VecDeque::pop_front);
            taken.extend(ticket.and_then(|ticket| state.remove(ticket)));
        }
        taken
    }

    /// Takes away all places.
    pub fn clear(&self) -> Vec<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.groups.clear();
        std::mem::take(&mut state.holders).into_values().map(|holder| holder.held).collect()
    }
}

impl<T> State<T> {
    fn greediest(&self) -> Option<Ticket> {
        let largest = self.groups.values().max_by_key(|tickets| tickets.len())?;
        largest.first().copied()
    }

    fn before(&self, moment: Instant) -> Vec<Ticket> {
        self.holders.iter().take_while(|(_, holder)| holder.since < moment).map(|(ticket, _)| *ticket).collect()
    }

    fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let holder = self.holders.remove(&ticket)?;
        if let Some(tickets) = self.groups.get_mut(&holder.group) {
            tickets.remove(&ticket);
            if tickets.is_empty() {
                self.groups.remove(&holder.group);
            }
        }
        Some(holder.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_greediest_gives_way() {
        let places = Places::new(4);
        let (greedy, modest): (Arc<str>, Arc<str>) = ("greedy".into(), "modest".into());
        assert_eq!(places.enter(1, &greedy, "a"), None);
        assert_eq!(places.enter(2, &modest, "b"), None);
        assert_eq!(places.enter(3, &greedy, "c"), None);
        assert_eq!(places.enter(4, &greedy, "d"), None);
        assert_eq!(places.enter(5, &greedy, "e"), Some("a"));
        assert_eq!(places.enter(6, &modest, "f"), Some("c"));
    }

    #[test]
    fn of_those_that_are_slow_the_surplus_leaves() {
        let places = Places::new(10);
        let (greedy, modest): (Arc<str>, Arc<str>) = ("greedy".into(), "modest".into());
        for one in 0..4 {
            places.enter(one, &greedy, one);
        }
        places.enter(4, &modest, 4);
        assert_eq!(places.surplus(2, Instant::now()), vec![0, 1, 2]);
        assert_eq!(places.overdue(Instant::now()), vec![3, 4]);
    }

    #[test]
    fn a_place_is_left_once() {
        let places = Places::new(1);
        places.enter(7, &"one".into(), "held");
        assert_eq!(places.leave(7), Some("held"));
        assert_eq!(places.leave(7), None);
    }
}
