//! What waits to be sent: that of each payer in order, payers in turns.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What one call brings.
pub trait Item {
    /// How many events that is.
    fn events(&self) -> usize;
    /// In bytes, in a group.
    fn size(&self) -> usize;
    /// In bytes, of memory.
    fn held(&self) -> usize;
}

/// How much a group carries, and how much waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Events in a group.
    pub events: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Calls that wait, of which one payer has no more than half.
    pub waiting: usize,
    /// Bytes that they hold.
    pub held: usize,
}

/// What waits.
pub struct Queue<T> {
    bounds: Bounds,
    payers: HashMap<Arc<str>, VecDeque<T>>,
    turns: VecDeque<Arc<str>>,
    waiting: usize,
    held: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { bounds: Bounds::default(), payers: HashMap::new(), turns: VecDeque::new(), waiting: 0, held: 0 }
    }
}

impl<T: Item> Queue<T> {
    /// Nothing waits yet.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// Adds what a call brings. Answers it where too much waits.
    pub fn put(&mut self, payer: &str, item: T) -> Result<(), Box<T>> {
        let held = item.held();
        if self.waiting >= self.bounds.waiting || self.held + held > self.bounds.held {
            return Err(Box::new(item));
        }
        match self.payers.get_mut(payer) {
            Some(queue) if queue.len() >= self.bounds.waiting / 2 => return Err(Box::new(item)),
            Some(queue) => queue.push_back(item),
            None => {
                let payer: Arc<str> = payer.into();
                self.turns.push_back(payer.clone());
                self.payers.insert(payer, VecDeque::from([item]));
            }
        }
        self.waiting += 1;
        self.held += held;
        Ok(())
    }

    /// Takes out as much as a group carries, a call's of each payer in turn; at least one, where there is one.
    pub fn group(&mut self) -> Vec<T> {
        let mut group = Vec::new();
        let (mut events, mut size) = (0, 0);
        while let Some(payer) = self.turns.front() {
            let Some(queue) = self.payers.get_mut(payer) else { break };
            let Some(first) = queue.front() else { break };
            events += first.events();
            size += first.size();
            if !group.is_empty() && (events > self.bounds.events || size > self.bounds.bytes) {
                break;
            }
            let is_last = queue.len() == 1;
            if let Some(item) = queue.pop_front() {
                self.waiting -= 1;
                self.held -= item.held();
                group.push(item);
            }
            if let Some(payer) = self.turns.pop_front() {
                if is_last {
                    self.payers.remove(&payer);
                } else {
                    self.turns.push_back(payer);
                }
            }
        }
        group
    }

    /// Takes out everything, in groups.
    pub fn clear(&mut self) -> Vec<Vec<T>> {
        std::iter::from_fn(|| Some(self.group()).filter(|group| !group.is_empty())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Small(&'static str, usize);

    impl Item for Small {
        fn events(&self) -> usize {
            1
        }
        fn size(&self) -> usize {
            self.1
        }
        fn held(&self) -> usize {
            self.1
        }
    }

    fn queue(items: &[(&'static str, &'static str, usize)]) -> Queue<Small> {
        let mut queue = Queue::new(Bounds { events: 3, bytes: 100, waiting: 8, held: 1_000 });
        for (payer, name, size) in items {
            queue.put(payer, Small(name, *size)).unwrap();
        }
        queue
    }

    fn names(group: Vec<Small>) -> Vec<&'static str> {
        group.into_iter().map(|one| one.0).collect()
    }

    #[test]
    fn payers_take_turns_in_groups_that_are_bounded() {
        let mut queue = queue(&[("a", "a1", 1), ("a", "a2", 1), ("a", "a3", 1), ("b", "b1", 1)]);
        assert_eq!(names(queue.group()), ["a1", "b1", "a2"]);
        assert_eq!(names(queue.group()), ["a3"]);
        assert!(queue.group().is_empty());
    }

    #[test]
    fn what_is_larger_than_a_group_goes_alone() {
        let mut queue = queue(&[("a", "a1", 90), ("a", "a2", 500), ("a", "a3", 50)]);
        let groups: Vec<_> = (0..3).map(|_| names(queue.group())).collect();
        assert_eq!(groups, [["a1"], ["a2"], ["a3"]]);
    }

    #[test]
    fn one_payer_leaves_places_to_others() {
        let mut queue = queue(&[("a", "a", 1), ("a", "a", 1), ("a", "a", 1), ("a", "a", 1)]);
        assert!(queue.put("a", Small("a", 1)).is_err());
        assert!(queue.put("b", Small("b", 1)).is_ok());
        assert!(queue.put("c", Small("c", 1_000)).is_err());
        assert_eq!(queue.clear().iter().map(Vec::len).collect::<Vec<_>>(), [3, 2]);
        assert!(queue.put("a", Small("a", 1_000)).is_ok());
    }
}
