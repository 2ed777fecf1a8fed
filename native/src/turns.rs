//! Whose turn it is: groups take turns, and within a group its members, so that one with many calls keeps others waiting
//! for no more than one of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

const COSTLY: Duration = Duration::from_millis(20);
/// What many calls take together: of those that take so long each, and of every second.
const NOTICED: Duration = Duration::from_millis(1);
const COSTLY_PART: f64 = 0.15;
const COSTLY_BURST_SECONDS: f64 = 0.05;
/// A group that is costly rests so many times as long as its task took, while others have calls.
const RESTS: u32 = 4;
const LONGEST_REST: Duration = Duration::from_millis(100);
const RECENT: Duration = Duration::from_millis(100);
const COSTLY_FOR: Duration = Duration::from_secs(2);
const LARGE_BYTES: usize = 128 << 10;
const KNOWN_COSTS: usize = 4_096;

/// Whose a call is, as far as its headers tell.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    /// An account, a service of the mesh, or the network that a stranger comes from.
    pub group: Arc<str>,
    /// A principal, or a stranger's connection.
    pub member: Arc<str>,
    /// Whether this process has seen a credential of theirs hold.
    pub known: bool,
}

/// A call that is whole.
pub trait Task {
    /// Whose it is.
    fn caller(&self) -> &Caller;
    /// Bytes that it holds while it waits.
    fn size(&self) -> usize;
}

/// How many may wait and run.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Tasks of a group that run at once.
    pub share: usize,
    /// The same for a group whose tasks take long of the processor.
    pub costly_share: usize,
    /// Tasks that wait.
    pub waiting: usize,
    /// Bytes that they hold.
    pub waiting_bytes: usize,
}

/// Which groups have tasks that take long of the processor: those of which one did lately, or many did together, and
/// those that send large messages. What else they send makes no difference, or cheap calls would hide costly ones.
#[derive(Default)]
struct Costs {
    until: HashMap<Arc<str>, Instant>,
    /// What each has taken beyond its part of the time, in seconds, and when that was so.
    levels: HashMap<Arc<str>, (f64, Instant)>,
}

impl Costs {
    fn expect(&mut self, group: &Arc<str>, size: usize) {
        if size > LARGE_BYTES {
            self.note(group);
        }
    }

    fn spent(&mut self, group: &Arc<str>, time: Duration) {
        let together = time > NOTICED && self.level(group, time) > COSTLY_BURST_SECONDS;
        if together || time > COSTLY {
            self.note(group);
        }
    }

    fn are_costly(&self, group: &str) -> bool {
        self.until.get(group).is_some_and(|until| Instant::now() < *until)
    }

    fn level(&mut self, group: &Arc<str>, time: Duration) -> f64 {
        let now = Instant::now();
        let (level, at) = self.levels.get(group).copied().unwrap_or((0.0, now));
        let level = (level - (now - at).as_secs_f64() * COSTLY_PART).max(0.0) + time.as_secs_f64();
        if self.levels.len() >= KNOWN_COSTS {
            self.levels.clear();
        }
        self.levels.insert(group.clone(), (level, now));
        level
    }

    fn note(&mut self, group: &Arc<str>) {
        if self.until.len() >= KNOWN_COSTS {
            self.until.clear();
        }
        self.until.insert(group.clone(), Instant::now() + COSTLY_FOR);
    }
}

/// When calls of any group but one came last.
#[derive(Default)]
struct Arrivals {
    newest: Option<(Arc<str>, Instant)>,
    others: Option<Instant>,
}

impl Arrivals {
    fn note(&mut self, group: &Arc<str>) {
        let now = Instant::now();
        if let Some((newest, at)) = &mut self.newest {
            if newest == group {
                *at = now;
                return;
            }
            self.others = Some(*at);
        }
        self.newest = Some((group.clone(), now));
    }

    fn of_others(&self, group: &Arc<str>) -> bool {
        let last = match &self.newest {
            Some((newest, at)) if newest != group => Some(*at),
            _ => self.others,
        };
        last.is_some_and(|at| at.elapsed() < RECENT)
    }
}

struct Group<T> {
    queues: HashMap<Arc<str>, VecDeque<T>>,
    members: VecDeque<Arc<str>>,
    waiting: usize,
    bytes: usize,
    running: usize,
    in_order: bool,
}

impl<T: Task> Group<T> {
    fn new() -> Self {
        Self { queues: HashMap::new(), members: VecDeque::new(), waiting: 0, bytes: 0, running: 0, in_order: false }
    }

    fn add(&mut self, task: T) {
        let member = task.caller().member.clone();
        let queue = self.queues.entry(member.clone()).or_insert_with(|| {
            self.members.push_back(member);
            VecDeque::new()
        });
        self.bytes += task.size();
        queue.push_back(task);
        self.waiting += 1;
    }

    fn take(&mut self) -> Option<T> {
        let member = self.members.pop_front()?;
        let queue = self.queues.get_mut(&member)?;
        let task = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&member);
        } else {
            self.members.push_back(member);
        }
        self.waiting -= 1;
        self.bytes -= task.size();
        Some(task)
    }

    /// The newest task of the member that has the most.
    fn drop_newest(&mut self) -> Option<T> {
        let (member, queue) = self.queues.iter_mut().max_by_key(|(_, queue)| queue.len())?;
        let task = queue.pop_back()?;
        if queue.is_empty() {
            let member = member.clone();
            self.queues.remove(&member);
            self.members.retain(|one| *one != member);
        }
        self.waiting -= 1;
        self.bytes -= task.size();
        Some(task)
    }
}

/// Tasks that wait for their turn.
pub struct Turns<T> {
    bounds: Bounds,
    costs: Costs,
    arrivals: Arrivals,
    order: VecDeque<Arc<str>>,
    groups: HashMap<Arc<str>, Group<T>>,
    waiting: usize,
    bytes: usize,
}

impl<T: Task> Turns<T> {
    /// Nothing waits yet.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            costs: Costs::default(),
            arrivals: Arrivals::default(),
            order: VecDeque::new(),
            groups: HashMap::new(),
            waiting: 0,
            bytes: 0,
        }
    }

    /// Has a task wait for its turn. Answers those that have to give way instead, when there are too many: it may be one
    /// of them.
    pub fn put(&mut self, task: T) -> Vec<T> {
        let name = task.caller().group.clone();
        let size = task.size();
        self.costs.expect(&name, size);
        self.arrivals.note(&name);
        let mut displaced = Vec::new();
        while self.waiting >= self.bounds.waiting || self.bytes + size > self.bounds.waiting_bytes {
            let Some(one) = self.in_the_way_of(&name, size) else {
                displaced.push(task);
                return displaced;
            };
            displaced.push(one);
        }
        self.groups.entry(name.clone()).or_insert_with(Group::new).add(task);
        self.waiting += 1;
        self.bytes += size;
        self.offer(&name);
        displaced
    }

    /// Whether a task could be taken.
    pub fn is_ready(&self) -> bool {
        !self.order.is_empty()
    }

    /// The next task. `done` has to be told when it has run.
    pub fn take(&mut self) -> Option<T> {
        let name = self.order.pop_front()?;
        let group = self.groups.get_mut(&name)?;
        group.in_order = false;
        let task = group.take()?;
        group.running += 1;
        self.waiting -= 1;
        self.bytes -= task.size();
        self.offer(&name);
        Some(task)
    }

    /// A task of a group took so much of a processor. Answers how long its place stays taken: what runs beside others'
    /// calls holds up each of their steps.
    pub fn spent(&mut self, name: &Arc<str>, took: Duration) -> Duration {
        self.costs.spent(name, took);
        let may_rest = self.bounds.costly_share < self.bounds.share;
        if may_rest && took > NOTICED && self.costs.are_costly(name) && self.arrivals.of_others(name) {
            (took * RESTS).min(LONGEST_REST)
        } else {
            Duration::ZERO
        }
    }

    /// The place of a task of a group that has run is free.
    pub fn done(&mut self, name: &Arc<str>) {
        if let Some(group) = self.groups.get_mut(name) {
            group.running -= 1;
            if group.waiting == 0 && group.running == 0 {
                self.groups.remove(name);
            } else {
                self.offer(name);
            }
        }
    }

    /// Takes out what has to give way to a task of a group and a size: nothing where the group's own has to.
    fn in_the_way_of(&mut self, name: &str, size: usize) -> Option<T> {
        let (own, own_bytes) = self.groups.get(name).map_or((0, 0), |group| (group.waiting, group.bytes));
        let largest = if self.bytes + size > self.bounds.waiting_bytes {
            self.groups.values_mut().max_by_key(|group| group.bytes).filter(|group| group.bytes > own_bytes + size)
        } else {
            self.groups.values_mut().max_by_key(|group| group.waiting).filter(|group| group.waiting > own + 1)
        }?;
        let displaced = largest.drop_newest()?;
        self.waiting -= 1;
        self.bytes -= displaced.size();
        Some(displaced)
    }

    /// Puts a group in order when it has something to run and may.
    fn offer(&mut self, name: &Arc<str>) {
        let Some(group) = self.groups.get_mut(name) else { return };
        if group.in_order || group.waiting == 0 || group.running >= self.bounds.share {
            return;
        }
        if group.running < self.bounds.costly_share || !self.costs.are_costly(name) {
            group.in_order = true;
            self.order.push_back(name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Small(Caller, usize);

    impl Task for Small {
        fn caller(&self) -> &Caller {
            &self.0
        }
        fn size(&self) -> usize {
            self.1
        }
    }

    fn task(group: &str, member: &str) -> Small {
        Small(Caller { group: group.into(), member: member.into(), known: true }, 1)
    }

    fn turns(share: usize, waiting: usize) -> Turns<Small> {
        Turns::new(Bounds { share, costly_share: 1, waiting, waiting_bytes: 1 << 20 })
    }

    fn next(turns: &mut Turns<Small>) -> String {
        turns.take().map_or(String::new(), |task| format!("{}/{}", task.0.group, task.0.member))
    }

    #[test]
    fn groups_take_turns_and_members_within() {
        let mut turns = turns(10, 100);
        for (group, member) in [("a", "1"), ("a", "1"), ("a", "2"), ("b", "3")] {
            assert!(turns.put(task(group, member)).is_empty());
        }
        let order: Vec<_> = (0..5).map(|_| next(&mut turns)).collect();
        assert_eq!(order, ["a/1", "b/3", "a/2", "a/1", ""]);
    }

    #[test]
    fn a_group_has_no_more_than_its_share() {
        let mut turns = turns(2, 100);
        for _ in 0..3 {
            turns.put(task("a", "1"));
        }
        assert_eq!([next(&mut turns), next(&mut turns), next(&mut turns)], ["a/1", "a/1", ""]);
        turns.done(&"a".into());
        assert!(turns.is_ready());
    }

    #[test]
    fn a_group_whose_tasks_are_costly_runs_fewer() {
        let mut turns = turns(5, 100);
        turns.put(task("a", "1"));
        turns.take();
        assert_eq!(turns.spent(&"a".into(), Duration::from_millis(50)), Duration::ZERO);
        turns.done(&"a".into());
        turns.put(task("a", "1"));
        turns.put(task("a", "1"));
        assert_eq!([next(&mut turns), next(&mut turns)], ["a/1", ""]);
    }

    #[test]
    fn many_tasks_that_take_a_while_are_costly_together_and_rest_beside_others() {
        let mut turns = turns(5, 100);
        turns.put(task("b", "1"));
        turns.put(task("a", "1"));
        let rests: Vec<_> = (0..20).map(|_| turns.spent(&"a".into(), Duration::from_millis(4))).collect();
        assert_eq!((rests[0], rests[19]), (Duration::ZERO, Duration::from_millis(16)));
        assert_eq!(turns.spent(&"a".into(), Duration::from_micros(100)), Duration::ZERO);
        assert_eq!(turns.spent(&"b".into(), Duration::from_millis(4)), Duration::ZERO);
    }

    #[test]
    fn the_newest_of_the_group_that_has_the_most_gives_way() {
        let mut turns = turns(1, 3);
        for member in ["1", "2", "2"] {
            turns.put(task("greedy", member));
        }
        let displaced: Vec<_> = turns.put(task("modest", "m")).iter().map(|one| one.0.member.to_string()).collect();
        assert_eq!(displaced, ["2"]);
        assert_eq!(turns.put(task("greedy", "3")).len(), 1);
        let order: Vec<_> = (0..2).map(|_| next(&mut turns)).collect();
        assert_eq!(order, ["greedy/1", "modest/m"]);
    }

    #[test]
    fn bytes_that_wait_are_bounded() {
        let mut turns = Turns::new(Bounds { share: 1, costly_share: 1, waiting: 100, waiting_bytes: 10 });
        assert!(turns.put(Small(task("a", "1").0, 8)).is_empty());
        assert_eq!(turns.put(Small(task("b", "1").0, 8)).len(), 1);
        turns.take();
        assert!(turns.put(Small(task("b", "1").0, 8)).is_empty());
    }

    #[test]
    fn whoever_has_most_bytes_makes_room_for_them_and_small_tasks_do_not() {
        let mut turns = Turns::new(Bounds { share: 1, costly_share: 1, waiting: 100, waiting_bytes: 100 });
        let put = |turns: &mut Turns<Small>, group: &str, size| -> Vec<String> {
            let displaced = turns.put(Small(task(group, "1").0, size));
            displaced.iter().map(|one| format!("{} {}", one.0.group, one.1)).collect()
        };
        for _ in 0..20 {
            assert!(put(&mut turns, "small", 1).is_empty());
        }
        for _ in 0..8 {
            assert!(put(&mut turns, "large", 10).is_empty());
        }
        assert_eq!(put(&mut turns, "large", 10), ["large 10"]);
        assert_eq!(put(&mut turns, "other", 25), ["large 10", "large 10", "large 10"]);
        assert_eq!(put(&mut turns, "other", 60), ["other 60"]);
    }
}
