//! The driver's side of a queue against a device of software.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::super::model::{Chain, DeviceQueue};
use super::*;

/// A driver's and a device's side of one queue, with buffers that outlive both.
struct Pair {
    driver: Queue,
    device: DeviceQueue,
    memory: &'static mut [u8],
}

impl Pair {
    fn new(size: u16, event_index: bool) -> Self {
        let driver = Queue::new(size, event_index);
        let device = DeviceQueue::new(driver.addresses(), event_index);
        Self { driver, device, memory: vec![0; 4096].leak() }
    }

    /// Pushes a chain of `readable` and `writable` segments of 16 bytes.
    fn push(&mut self, readable: usize, writable: usize) -> Option<u16> {
        let base = self.memory.as_mut_ptr();
        let segments: Vec<_> = (0..readable)
            .map(|_| Segment::readable(base, 16))
            .chain((0..writable).map(|_| Segment::writable(base, 16)))
            .collect();
        // SAFETY: the memory was leaked, and only the model touches it.
        unsafe { self.driver.push(&segments) }
    }
}

/// Moves both sides' indices to just before they wrap.
fn turn(pair: &mut Pair, times: u32) {
    for _ in 0..times {
        let head = pair.push(1, 1).expect("the queue is empty");
        let _ = pair.driver.publish();
        let chain = pair.device.take().expect("it was published");
        assert_eq!(chain.head, head);
        pair.device.give(u32::from(head), 16);
        assert_eq!(pair.driver.pop(), Ok(Some(Used { head, written: 16 })));
    }
}

#[test]
fn a_chain_reaches_the_device_as_it_was_pushed() {
    let mut pair = Pair::new(8, true);
    pair.memory[..16].copy_from_slice(b"sixteen bytes ok");
    let head = pair.push(2, 1).expect("there is room");
    assert!(pair.device.take().is_none(), "not before it is published");
    let _ = pair.driver.publish();
    let chain = pair.device.take().expect("it was published");
    assert_eq!((chain.head, chain.writable_length()), (head, 16));
    assert_eq!(chain.read(), b"sixteen bytes oksixteen bytes ok");
    assert_eq!(pair.driver.pop(), Ok(None));
    assert_eq!(pair.driver.free(), 5);
    pair.device.give(u32::from(head), 7);
    assert_eq!(pair.driver.pop(), Ok(Some(Used { head, written: 7 })));
    assert_eq!(pair.driver.free(), 8);
    assert!(pair.driver.is_idle());
}

#[test]
fn a_full_queue_takes_no_more() {
    let mut pair = Pair::new(4, false);
    assert!(pair.push(2, 1).is_some());
    assert!(pair.push(1, 1).is_none(), "one descriptor is left");
    assert!(pair.push(1, 0).is_some());
    assert!(pair.push(1, 0).is_none());
    assert!(pair.push(0, 0).is_none(), "a chain of nothing");
}

#[test]
fn indices_wrap() {
    for event_index in [false, true] {
        let mut pair = Pair::new(4, event_index);
        turn(&mut pair, 3 * 65536 + 5);
    }
}

#[test]
fn nonsense_is_told_and_harms_nothing() {
    let popped = |act: fn(&mut Pair, &Chain)| {
        let mut pair = Pair::new(8, true);
        turn(&mut pair, 65535);
        pair.push(1, 1).expect("there is room");
        let _ = pair.driver.publish();
        let chain = pair.device.take().expect("it was published");
        act(&mut pair, &chain);
        pair.driver.pop().expect_err("the device talked nonsense")
    };
    assert_eq!(popped(|pair, _| pair.device.give(8, 0)), Nonsense::UnknownChain(8));
    assert_eq!(popped(|pair, _| pair.device.give(u32::MAX, 0)), Nonsense::UnknownChain(u32::MAX));
    // The second descriptor of the chain is no head.
    assert!(matches!(
        popped(|pair, chain| pair.device.give(u32::from(chain.head) ^ 1, 0)),
        Nonsense::UnknownChain(_)
    ));
    assert_eq!(
        popped(|pair, chain| pair.device.give(u32::from(chain.head), 17)),
        Nonsense::WrittenTooMuch { written: 17, lent: 16 }
    );
    assert_eq!(popped(|pair, _| pair.device.set_used(7)), Nonsense::IndexJumped { used: 7, expected: 65535 });
    assert_eq!(
        popped(|pair, chain| {
            pair.device.give(u32::from(chain.head), 0);
            pair.device.give(u32::from(chain.head), 0);
        }),
        Nonsense::IndexJumped { used: 1, expected: 65535 }
    );
}

#[test]
fn a_chain_returned_twice_among_others_is_nonsense() {
    let mut pair = Pair::new(8, true);
    let first = pair.push(0, 1).expect("there is room");
    pair.push(0, 1).expect("there is room");
    let _ = pair.driver.publish();
    pair.device.give(u32::from(first), 0);
    pair.device.give(u32::from(first), 0);
    assert_eq!(pair.driver.pop(), Ok(Some(Used { head: first, written: 0 })));
    assert_eq!(pair.driver.pop(), Err(Nonsense::UnknownChain(u32::from(first))));
}

#[test]
fn a_length_for_what_was_only_read_is_not_looked_at() {
    let mut pair = Pair::new(8, true);
    let head = pair.push(1, 0).expect("there is room");
    let _ = pair.driver.publish();
    pair.device.give(u32::from(head), 1514);
    assert_eq!(pair.driver.pop(), Ok(Some(Used { head, written: 0 })));
}

#[test]
fn a_late_notification_comes_after_three_quarters() {
    let mut pair = Pair::new(16, true);
    let heads: Vec<_> = (0..16).map(|_| pair.push(1, 0).expect("there is room")).collect();
    let _ = pair.driver.publish();
    assert!(!pair.driver.enable_notifications_late());
    let interrupts: Vec<_> = heads
        .iter()
        .map(|&head| {
            pair.device.give(u32::from(head), 0);
            pair.device.interrupts()
        })
        .collect();
    assert_eq!(interrupts.iter().position(|&interrupt| interrupt), Some(11));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push {
        readable: usize,
        writable: usize,
    },
    Publish,
    Take,
    /// Gives back one of the chains taken, in any order.
    Give {
        which: prop::sample::Index,
        written: u32,
    },
    Pop,
    /// The driver goes to sleep, unless there is something.
    DriverSleeps,
    /// The device goes to sleep, unless there is something.
    DeviceSleeps,
    DeviceBusy,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_usize..3, 0_usize..3).prop_map(|(readable, writable)| Step::Push { readable, writable }),
        2 => Just(Step::Publish),
        3 => Just(Step::Take),
        3 => (any::<prop::sample::Index>(), any::<u32>())
            .prop_map(|(which, written)| Step::Give { which, written }),
        3 => Just(Step::Pop),
        1 => Just(Step::DriverSleeps),
        1 => Just(Step::DeviceSleeps),
        1 => Just(Step::DeviceBusy),
    ]
}

proptest! {
    /// Whatever the order of what both do: chains arrive as pushed and come back once, descriptors are not lost, and
    /// neither sleeps while there is work for it.
    #[test]
    fn any_order_of_steps_keeps_the_books(
        steps in prop::collection::vec(step(), 1..300),
        event_index: bool,
        start in 65_500_u32..65_540,
    ) {
        let mut pair = Pair::new(8, event_index);
        turn(&mut pair, start);
        let mut pushed: VecDeque<(u16, usize)> = VecDeque::new();
        let mut published = 0;
        let mut taken: Vec<Chain> = Vec::new();
        let mut given: VecDeque<Used> = VecDeque::new();
        let mut sizes: HashMap<u16, usize> = HashMap::new();
        let (mut driver_sleeps, mut device_sleeps) = (false, false);
        let _ = pair.device.interrupts();
        for step in steps {
            match step {
                Step::Push { readable, writable } => {
                    let count = readable + writable;
                    let room = count > 0 && count <= usize::from(pair.driver.free());
                    let head = pair.push(readable, writable);
                    prop_assert_eq!(head.is_some(), room);
                    if let Some(head) = head {
                        pushed.push_back((head, count));
                        prop_assert!(sizes.insert(head, count).is_none(), "a head in flight is not given again");
                    }
                }
                Step::Publish => {
                    let wanted = pair.driver.publish();
                    if device_sleeps && pushed.len() > published {
                        prop_assert!(wanted, "the device sleeps and is not notified");
                        device_sleeps = false;
                    }
                    published = pushed.len();
                }
                Step::Take => {
                    let chain = pair.device.take();
                    prop_assert_eq!(chain.is_some(), published > 0);
                    if let Some(chain) = chain {
                        published -= 1;
                        let (head, count) = pushed.pop_front().expect("it was published");
                        prop_assert_eq!(chain.head, head);
                        prop_assert_eq!(chain.readable.len() + chain.writable.len(), count);
                        taken.push(chain);
                    }
                }
                Step::Give { which, written } if !taken.is_empty() => {
                    let chain = taken.swap_remove(which.index(taken.len()));
                    let written = written % (chain.writable_length() + 1);
                    pair.device.give(u32::from(chain.head), written);
                    given.push_back(Used { head: chain.head, written });
                    let interrupt = pair.device.interrupts();
                    if driver_sleeps {
                        prop_assert!(interrupt, "the driver sleeps and is not interrupted");
                        driver_sleeps = false;
                    }
                }
                Step::Give { .. } => {}
                Step::Pop => {
                    let expected = given.pop_front();
                    if let Some(used) = expected {
                        sizes.remove(&used.head);
                        driver_sleeps = false;
                        pair.driver.disable_notifications();
                    }
                    prop_assert_eq!(pair.driver.pop(), Ok(expected));
                }
                Step::DriverSleeps => {
                    let more = pair.driver.enable_notifications();
                    prop_assert_eq!(more, !given.is_empty());
                    driver_sleeps = !more;
                }
                Step::DeviceSleeps => device_sleeps = !pair.device.want_notification(),
                Step::DeviceBusy => {
                    pair.device.refuse_notification();
                    device_sleeps = false;
                }
            }
            let in_flight: usize = sizes.values().sum();
            prop_assert_eq!(usize::from(pair.driver.free()), 8 - in_flight);
        }
    }
}
