//! Stories of a budget, and a property over any order of asking and giving back.

use proptest::prelude::*;

use super::*;

const KIB: usize = 1024;

/// The way to a handset of its own.
fn open(budget: &mut Budget) -> Lane {
    budget.open_lanes().1
}

fn ticket(answer: Answer) -> Ticket {
    match answer {
        Answer::Waits(ticket) => ticket,
        Answer::Granted => panic!("it was granted"),
    }
}

#[test]
fn the_budget_is_three_quarters_of_what_the_kernel_allows() {
    assert_eq!(Budget::of_usbfs_memory(Some(16)).total(), 12 * KIB * KIB);
    assert_eq!(Budget::of_usbfs_memory(None).total(), 12 * KIB * KIB);
    assert_eq!(Budget::of_usbfs_memory(Some(1)).total(), 768 * KIB);
    assert_eq!(Budget::of_usbfs_memory(Some(0)).total(), TOTAL_UNBOUNDED);
}

#[test]
fn one_handset_uses_large_transfers_and_a_full_rack_smaller_ones() {
    let mut budget = Budget::of_usbfs_memory(Some(16));
    budget.open_lanes();
    assert_eq!(budget.transfer_len(), TRANSFER_MAX);
    for _ in 1..32 {
        budget.open_lanes();
    }
    assert_eq!(budget.transfer_len(), 128 * KIB);
    let mut small = Budget::of_usbfs_memory(Some(1));
    for _ in 0..32 {
        small.open_lanes();
    }
    assert_eq!(small.transfer_len(), 8 * KIB);
    for _ in 32..200 {
        small.open_lanes();
    }
    assert_eq!(small.transfer_len(), TRANSFER_MIN);
}

#[test]
fn who_gets_nothing_waits_until_something_is_given_back() {
    let mut budget = Budget::of_usbfs_memory(Some(1));
    let (a, b) = (open(&mut budget), open(&mut budget));
    assert_eq!(budget.ask(a, 384 * KIB), Answer::Granted);
    let more = ticket(budget.ask(a, 8 * KIB));
    assert_eq!(budget.ask(b, 384 * KIB), Answer::Granted, "the other lane has its own share");
    assert!(budget.give_back(b, 384 * KIB).is_empty(), "its own transfer must come back first");
    assert_eq!(budget.give_back(a, 384 * KIB), [more]);
}

#[test]
fn a_big_wish_is_not_starved_by_small_ones_that_come_later() {
    let mut budget = Budget::of_usbfs_memory(Some(1));
    let (a, b, c) = (open(&mut budget), open(&mut budget), open(&mut budget));
    assert_eq!(budget.ask(a, 700 * KIB), Answer::Granted);
    let big = ticket(budget.ask(b, 200 * KIB));
    let small = ticket(budget.ask(c, 8 * KIB));
    assert_eq!(budget.give_back(a, 700 * KIB), [big, small]);
}

#[test]
fn a_handset_that_stalls_leaves_the_others_their_share() {
    let mut budget = Budget::of_usbfs_memory(Some(1));
    let stalled = open(&mut budget);
    let others: Vec<Lane> = (0..7).map(|_| open(&mut budget)).collect();
    while budget.ask(stalled, 16 * KIB) == Answer::Granted {}
    for lane in others {
        for _ in 0..6 {
            assert_eq!(budget.ask(lane, 16 * KIB), Answer::Granted);
        }
    }
}

#[test]
fn the_directions_of_a_handset_share_and_neither_keeps_the_other_from_its_first_transfer() {
    let mut budget = Budget::of_usbfs_memory(Some(1));
    let (from, to) = budget.open_lanes();
    budget.open_lanes();
    while budget.ask(to, 16 * KIB) == Answer::Granted {}
    assert_eq!(budget.ask(from, 16 * KIB), Answer::Granted, "its first");
    ticket(budget.ask(from, 16 * KIB));
}

#[test]
fn a_lane_that_was_closed_gives_back_what_its_transfers_held() {
    let mut budget = Budget::of_usbfs_memory(Some(1));
    let (a, b) = (open(&mut budget), open(&mut budget));
    assert_eq!(budget.ask(a, 700 * KIB), Answer::Granted);
    let waits = ticket(budget.ask(b, 200 * KIB));
    assert!(budget.close_lane(a).is_empty(), "its transfer is still in the kernel");
    assert_eq!(budget.give_back(a, 700 * KIB), [waits]);
}

#[test]
fn a_wish_that_was_withdrawn_lets_the_next_one_through() {
    let mut budget = Budget::of_usbfs_memory(Some(1));
    let (a, b, c) = (open(&mut budget), open(&mut budget), open(&mut budget));
    assert_eq!(budget.ask(a, 700 * KIB), Answer::Granted);
    let big = ticket(budget.ask(b, 200 * KIB));
    let small = ticket(budget.ask(c, 8 * KIB));
    assert_eq!(budget.withdraw(big), [small]);
}

#[derive(Clone, Debug)]
enum Step {
    Ask { lane: usize, bytes: usize },
    GiveBack { nth: usize },
    Withdraw { nth: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..6_usize, 1..=TRANSFER_MAX).prop_map(|(lane, bytes)| Step::Ask { lane, bytes }),
        2 => any::<usize>().prop_map(|nth| Step::GiveBack { nth }),
        1 => any::<usize>().prop_map(|nth| Step::Withdraw { nth }),
    ]
}

proptest! {
    #[test]
    fn the_total_is_kept_and_everyone_is_served_in_the_end(steps in prop::collection::vec(step(), 1..200)) {
        let mut budget = Budget::of_usbfs_memory(Some(1));
        let lanes: Vec<Lane> = (0..6).map(|_| open(&mut budget)).collect();
        let mut held: Vec<(Lane, usize)> = Vec::new();
        let mut waiting: BTreeMap<Ticket, (Lane, usize)> = BTreeMap::new();
        for step in steps {
            let granted = match step {
                Step::Ask { lane, bytes } => {
                    match budget.ask(lanes[lane], bytes) {
                        Answer::Granted => held.push((lanes[lane], bytes)),
                        Answer::Waits(ticket) => { waiting.insert(ticket, (lanes[lane], bytes)); }
                    }
                    Vec::new()
                }
                Step::GiveBack { nth } if !held.is_empty() => {
                    let (lane, bytes) = held.swap_remove(nth % held.len());
                    budget.give_back(lane, bytes)
                }
                Step::Withdraw { nth } if !waiting.is_empty() => {
                    let ticket = *waiting.keys().nth(nth % waiting.len()).unwrap();
                    waiting.remove(&ticket);
                    budget.withdraw(ticket)
                }
                _ => Vec::new(),
            };
            held.extend(granted.iter().map(|ticket| waiting.remove(ticket).unwrap()));
            prop_assert!(held.iter().map(|(_, bytes)| bytes).sum::<usize>() <= budget.total());
        }
        while let Some((lane, bytes)) = held.pop() {
            held.extend(budget.give_back(lane, bytes).iter().map(|ticket| waiting.remove(ticket).unwrap()));
        }
        prop_assert!(waiting.is_empty(), "{waiting:?} never served");
    }
}
