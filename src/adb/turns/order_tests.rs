use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// What the bus moves in a step, in bytes, and how long that takes: 40 MB/s, as a high-speed bus does.
const STEP_BYTES: usize = 64 << 10;
const STEP: Duration = Duration::from_micros(1640);
/// What a phone's stream asks for at once, and keeps of it for the phone, in bytes.
const MESSAGE: usize = 512 << 10;
const KEPT_MAX: usize = 2 << 20;

fn person(name: &str) -> Party {
    Party::Person(name.into())
}

/// A phone to which somebody pushes without end.
struct Phone {
    party: Party,
    /// It takes bytes in one of so many of the bus's steps at most; never, if 0.
    takes_each: u64,
    /// From which of the bus's steps on it takes bytes again.
    ready_at: u64,
    wish: Option<Ticket>,
    /// What it has to take, with its turns.
    kept: VecDeque<(Ticket, usize)>,
    took: u64,
}

/// A bus whose controller takes the phones in turn, as they do.
struct Bus {
    /// How long a step takes.
    step: Duration,
    order: Order,
    now: Moment,
    steps: u64,
    phones: Vec<Phone>,
    next: usize,
}

impl Bus {
    fn of(phones: &[(&Party, u64)]) -> Self {
        let phone = |(party, takes_each): &(&Party, u64)| Phone {
            party: (*party).clone(),
            takes_each: *takes_each,
            ready_at: 0,
            wish: None,
            kept: VecDeque::new(),
            took: 0,
        };
        Self {
            step: STEP,
            order: Order::default(),
            now: Moment::START,
            steps: 0,
            phones: phones.iter().map(phone).collect(),
            next: 0,
        }
    }

    /// The same, so many times slower.
    fn slower(self, times: u32) -> Self {
        Self { step: self.step * times, ..self }
    }

    fn run(mut self, time: Duration) -> Self {
        while self.now < Moment::START + time {
            self.ask();
            self.step();
            if self.order.deadline().is_some_and(|deadline| deadline.at <= self.now) {
                let granted = self.order.advance(self.now);
                self.granted(&granted);
            }
        }
        self
    }

    fn ask(&mut self) {
        let mut granted = Vec::new();
        for phone in &mut self.phones {
            let kept: usize = phone.kept.iter().map(|(_, left)| left).sum();
            if phone.wish.is_some() || kept + MESSAGE > KEPT_MAX {
                continue;
            }
            let (ticket, now_granted) = self.order.ask(&phone.party, MESSAGE, self.now);
            assert!(ticket.is_some(), "a large message is not free");
            phone.wish = ticket;
            granted.extend(now_granted);
        }
        self.granted(&granted);
    }

    fn step(&mut self) {
        self.steps += 1;
        self.now = self.now + self.step;
        let (count, steps) = (self.phones.len(), self.steps);
        let takes = |phone: &Phone| phone.takes_each > 0 && phone.ready_at <= steps && !phone.kept.is_empty();
        let Some(index) = (0..count).map(|add| (self.next + add) % count).find(|index| takes(&self.phones[*index]))
        else {
            return;
        };
        self.next = index + 1;
        let phone = &mut self.phones[index];
        let (ticket, left) = phone.kept.front_mut().unwrap();
        *left -= STEP_BYTES;
        phone.took += STEP_BYTES as u64;
        phone.ready_at = steps + phone.takes_each;
        if *left == 0 {
            let ticket = *ticket;
            phone.kept.pop_front();
            let granted = self.order.end(ticket, self.now);
            self.granted(&granted);
        }
    }

    fn granted(&mut self, tickets: &[Ticket]) {
        for ticket in tickets {
            let phone = self.phones.iter_mut().find(|phone| phone.wish == Some(*ticket)).unwrap();
            phone.wish = None;
            phone.kept.push_back((*ticket, MESSAGE));
        }
    }

    /// What a party got of what the bus can do, in percent.
    fn percent_of(&self, party: &Party) -> u64 {
        let took: u64 = self.phones.iter().filter(|phone| phone.party == *party).map(|phone| phone.took).sum();
        took * 100 / (self.steps * STEP_BYTES as u64)
    }
}

const WHILE: Duration = Duration::from_secs(20);

#[test]
fn a_rollout_to_seven_phones_leaves_half_of_the_bus_to_a_persons_push_and_the_other_way_round() {
    for (one, seven) in [(person("mara"), Party::Rack), (Party::Rack, person("mara"))] {
        let mut phones = vec![(&one, 1)];
        phones.extend([(&seven, 1); 7]);
        let bus = Bus::of(&phones).run(WHILE);
        let (one, seven) = (bus.percent_of(&one), bus.percent_of(&seven));
        assert!((45..=55).contains(&one) && one + seven >= 99, "{one} % and {seven} %");
    }
}

#[test]
fn a_slow_bus_is_shared_as_well() {
    let mara = person("mara");
    // 20 to 5 MB/s: a window takes up to 400 ms.
    for times in [2, 4, 8] {
        let mut phones = vec![(&mara, 1)];
        phones.extend([(&Party::Rack, 1); 7]);
        let bus = Bus::of(&phones).slower(times).run(WHILE);
        let (one, seven) = (bus.percent_of(&mara), bus.percent_of(&Party::Rack));
        assert!((40..=60).contains(&one) && one + seven >= 99, "{times} times slower: {one} % and {seven} %");
    }
}

#[test]
fn each_person_has_a_share_and_farmhand_one() {
    let (mara, jon) = (person("mara"), person("jon"));
    let phones = [(&mara, 1), (&jon, 1), (&jon, 1), (&jon, 1), (&Party::Rack, 1), (&Party::Rack, 1)];
    let bus = Bus::of(&phones).run(WHILE);
    for party in [&mara, &jon, &Party::Rack] {
        let percent = bus.percent_of(party);
        assert!((28..=38).contains(&percent), "{party:?} has {percent} %");
    }
}

#[test]
fn who_is_alone_has_all_of_it_whatever_he_has_on_the_bus() {
    let bus = Bus::of(&[(&Party::Rack, 1); 8]).run(WHILE);
    assert!(bus.percent_of(&Party::Rack) >= 99);
    assert!(bus.phones.iter().all(|phone| phone.wish.is_none()), "nobody waits for a turn");
}

#[test]
fn what_slow_phones_can_t_take_is_the_others() {
    let mara = person("mara");
    // An eighth of the bus at most.
    let bus = Bus::of(&[(&mara, 8), (&Party::Rack, 1), (&Party::Rack, 1)]).run(WHILE);
    let (slow, rest) = (bus.percent_of(&mara), bus.percent_of(&Party::Rack));
    assert!(slow >= 10 && rest >= 80, "{slow} % and {rest} %");
}

#[test]
fn phones_that_stall_hold_nobody_up() {
    let mara = person("mara");
    let mut phones = vec![(&mara, 0); 7];
    phones.push((&Party::Rack, 1));
    let bus = Bus::of(&phones).run(WHILE);
    assert!(bus.percent_of(&Party::Rack) >= 90, "{} %", bus.percent_of(&Party::Rack));
    let mut phones = vec![(&mara, 0); 7];
    phones.push((&mara, 1));
    phones.push((&Party::Rack, 1));
    let bus = Bus::of(&phones).run(WHILE);
    assert!(bus.percent_of(&mara) >= 40, "his own that is well: {} %", bus.percent_of(&mara));
}

/// A large message: its ticket, and whether it is granted at once.
fn ask(order: &mut Order, party: &Party, bytes: usize) -> (Ticket, bool) {
    let (ticket, granted) = order.ask(party, bytes, Moment::START);
    (ticket.unwrap(), granted == [ticket.unwrap()])
}

#[test]
fn a_short_message_waits_for_nothing_and_is_counted() {
    let (mara, now) = (person("mara"), Moment::START);
    let mut order = Order::default();
    assert_eq!(order.ask(&mara, SMALL, now), (None, vec![]));
    let (first, is_granted) = ask(&mut order, &Party::Rack, WINDOW / 2);
    assert!(is_granted && ask(&mut order, &Party::Rack, WINDOW / 2).1, "it is alone");
    for _ in 0..1024 {
        assert_eq!(order.ask(&mara, SMALL, now), (None, vec![]));
    }
    assert!(ask(&mut order, &mara, MESSAGE).1, "nothing of hers counts");
    assert!(!ask(&mut order, &mara, MESSAGE).1, "the window is full");
    let (later, is_granted) = ask(&mut order, &Party::Rack, MESSAGE);
    assert!(!is_granted, "the window is full");
    assert_eq!(order.end(first, now), [later], "4 MiB of short messages are before it");
}

#[test]
fn a_wish_that_waited_for_others_who_are_gone_is_granted_with_the_next_one() {
    let (mara, later) = (person("mara"), Moment::START + PATIENCE / 2);
    let mut order = Order::default();
    let (hers, _) = ask(&mut order, &mara, MESSAGE);
    ask(&mut order, &Party::Rack, WINDOW);
    assert_eq!(order.end(hers, Moment::START), []);
    let (waits, granted) = order.ask(&Party::Rack, MESSAGE, later);
    assert_eq!(granted, [], "she is thought of as there");
    let (next, granted) = order.ask(&Party::Rack, MESSAGE, Moment::START + PATIENCE);
    assert_eq!(granted, [waits.unwrap(), next.unwrap()]);
}

#[test]
fn names_are_forgotten_once_the_bus_is_idle() {
    let mut order = Order::default();
    for name in 0..100 {
        let (ticket, is_granted) = ask(&mut order, &person(&name.to_string()), MESSAGE);
        assert!(is_granted);
        assert_eq!(order.end(ticket, Moment::START), []);
    }
    assert!(order.parties.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Ask { party: usize, bytes: usize },
    End { which: prop::sample::Index },
    Wait { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..4, 1_usize..1 << 20).prop_map(|(party, bytes)| Step::Ask { party, bytes }),
        3 => any::<prop::sample::Index>().prop_map(|which| Step::End { which }),
        1 => (0_u64..300).prop_map(|ms| Step::Wait { ms }),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_the_sums_are_right_and_nobody_waits_without_a_reason(steps in prop::collection::vec(step(), 1..200)) {
        let parties = [Party::Rack, person("mara"), person("jon"), person("")];
        let (mut order, mut now) = (Order::default(), Moment::START);
        let (mut open, mut told): (Vec<Ticket>, BTreeSet<Ticket>) = Default::default();
        for step in steps {
            match step {
                Step::Ask { party, bytes } => {
                    let (ticket, granted) = order.ask(&parties[party], bytes, now);
                    prop_assert_eq!(ticket.is_none(), bytes <= SMALL);
                    open.extend(ticket);
                    told.extend(granted);
                }
                Step::End { .. } if open.is_empty() => {}
                Step::End { which } => told.extend(order.end(open.swap_remove(which.index(open.len())), now)),
                Step::Wait { ms } => {
                    now = now + Duration::from_millis(ms);
                    told.extend(order.advance(now));
                }
            }
            prop_assert!(order.turns.keys().all(|ticket| told.contains(ticket)), "each grant is told");
            look(&order)?;
        }
        // No turn ends any more.
        for _ in 0..1000 {
            let Some(deadline) = order.deadline() else { break };
            now = now.max(deadline.at);
            prop_assert!(!order.advance(now).is_empty() || order.turns.values().any(|turn| !turn.counts));
        }
        prop_assert!(order.wishes.is_empty(), "{order:?}");
        for ticket in open {
            order.end(ticket, now);
        }
        prop_assert!(order.is_idle() && order.parties.is_empty() && order.counted == 0);
    }
}

fn look(order: &Order) -> Result<(), TestCaseError> {
    let counted =
        |turns: &mut dyn Iterator<Item = &Turn>| turns.filter(|turn| turn.counts).map(|turn| turn.bytes).sum();
    let all: usize = counted(&mut order.turns.values());
    prop_assert_eq!(all, order.counted);
    for (party, standing) in &order.parties {
        let own: usize = counted(&mut order.turns.values().filter(|turn| turn.party == *party));
        prop_assert_eq!(own, standing.counted);
        prop_assert_eq!(order.wishes.values().filter(|wish| wish.party == *party).count(), standing.wishes);
        prop_assert!(standing.wishes == 0 || standing.counted > 0, "{:?} waits, and nothing of it counts", party);
    }
    prop_assert!(order.wishes.is_empty() || order.counted > 0);
    prop_assert!(order.wishes.is_empty() || order.deadline().is_some());
    Ok(())
}
