use proptest::prelude::*;

use super::*;

const WINDOW: usize = 4;

fn ms(ms: u64) -> Moment {
    Moment::from_start(Duration::from_millis(ms))
}

/// What stands in a block.
fn block(index: u64) -> Bytes {
    Bytes::copy_from_slice(&index.to_le_bytes())
}

fn scan(blocks: u64) -> Scan {
    Scan::new(0, blocks, WINDOW, Moment::START)
}

/// Takes blocks until the reader has to wait, and gives how many; what is to be read is there at once.
fn run(scan: &mut Scan, id: ReaderId, now: Moment) -> (u64, Step) {
    let mut taken = 0;
    loop {
        match scan.step(id, now) {
            Step::Take(_) => taken += 1,
            Step::Load(index) => scan.loaded(index, block(index)),
            other => return (taken, other),
        }
    }
}

fn wait_until(step: &Step) -> Moment {
    match step {
        Step::Wait(Some(deadline)) => deadline.at,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_block_is_read_by_the_first_who_wants_it_and_taken_by_all() {
    let mut scan = scan(9);
    let [a, b] = [0; 2].map(|at| scan.join(at, Moment::START).unwrap());
    assert_eq!(scan.step(a, ms(1)), Step::Load(0));
    assert_eq!(scan.step(b, ms(1)), Step::Wait(None), "it is being read");
    scan.loaded(0, block(0));
    assert_eq!(scan.step(b, ms(1)), Step::Take(block(0)));
    assert_eq!(scan.step(b, ms(1)), Step::Load(1));
    assert_eq!(scan.step(a, ms(1)), Step::Take(block(0)));
}

#[test]
fn who_comes_a_little_later_still_gets_the_first_block_and_who_comes_late_does_not() {
    let mut scan = scan(9);
    let first = scan.join(0, Moment::START).unwrap();
    let (taken, waits) = run(&mut scan, first, ms(1));
    assert_eq!((taken, wait_until(&waits)), (4, ms(250)), "the first blocks are kept while others gather");
    let second = scan.join(0, ms(200)).unwrap();
    assert_eq!(run(&mut scan, second, ms(200)).0, 4);
    assert_eq!(run(&mut scan, first, ms(250)).0, 4, "both have taken the first four");
    assert_eq!(run(&mut scan, second, ms(250)), (5, Step::End));
    assert_eq!(run(&mut scan, first, ms(250)), (1, Step::End));
    assert_eq!(scan.join(0, ms(251)), None);
}

#[test]
fn a_file_that_fits_into_the_window_stays_as_long_as_it_is_read() {
    let mut scan = scan(4);
    let first = scan.join(0, Moment::START).unwrap();
    assert_eq!(run(&mut scan, first, ms(1)), (4, Step::End));
    scan.leave(first, ms(9_000));
    let late = scan.join(0, ms(9_000)).unwrap();
    for index in 0..4 {
        assert_eq!(scan.step(late, ms(9_000)), Step::Take(block(index)));
    }
}

#[test]
fn one_that_stalls_holds_the_others_up_for_two_seconds_and_is_left_behind() {
    let mut scan = scan(100);
    let [fast, stalled] = [0; 2].map(|at| scan.join(at, Moment::START).unwrap());
    assert_eq!(scan.step(stalled, ms(1)), Step::Load(0));
    scan.loaded(0, block(0));
    assert_eq!(scan.step(stalled, ms(1)), Step::Take(block(0)));
    let (taken, waits) = run(&mut scan, fast, ms(300));
    assert_eq!((taken, wait_until(&waits)), (5, ms(2_300)));
    assert_eq!(run(&mut scan, fast, ms(2_299)).0, 0);
    assert_eq!(run(&mut scan, fast, ms(2_300)), (95, Step::End));
    assert_eq!(scan.step(stalled, ms(2_400)), Step::Part(1));
}

#[test]
fn one_that_is_slow_all_the_time_loses_those_who_have_waited_long_enough() {
    let mut scan = scan(100);
    let [fast, slow] = [0; 2].map(|at| scan.join(at, Moment::START).unwrap());
    let mut parted = None;
    for round in 1..100 {
        let now = ms(1_000 * round);
        if let Step::Part(at) = run(&mut scan, fast, now).1 {
            parted = Some((round, at));
            break;
        }
        assert!(matches!(scan.step(slow, now), Step::Take(_)), "one block a second, in round {round}");
    }
    // It has waited for eleven seconds of its twelve: half of them and five more.
    assert_eq!(parted, Some((12, 15)));
    assert_eq!(scan.step(slow, ms(12_500)), Step::Take(block(11)), "it goes on");
    assert_eq!(run(&mut scan, slow, ms(12_600)).1, Step::End, "and waits for nobody");
}

/// As when many share a processor: each in its turn takes what it can, and waits for all others.
#[test]
fn readers_of_like_speed_stay_together() {
    let mut scan = scan(60);
    let readers: Vec<ReaderId> = (0..8).map(|_| scan.join(0, Moment::START).unwrap()).collect();
    let (mut loaded, mut ended) = (0, 0);
    for round in 0..400 {
        let (now, id) = (ms(20 * round), readers[(round % 8) as usize]);
        loop {
            match scan.step(id, now) {
                Step::Load(index) => {
                    loaded += 1;
                    scan.loaded(index, block(index));
                }
                Step::Take(_) => {}
                Step::Part(at) => panic!("left behind at {at} in round {round}"),
                Step::End => break ended += 1,
                Step::Wait(_) => break,
            }
        }
    }
    assert!(ended >= readers.len(), "{ended}");
    assert_eq!(loaded, 60, "each block was read once");
}

#[test]
fn a_block_that_could_not_be_read_is_tried_again_by_whoever_wants_it() {
    let mut scan = scan(9);
    let [a, b] = [0; 2].map(|at| scan.join(at, Moment::START).unwrap());
    assert_eq!(scan.step(a, ms(1)), Step::Load(0));
    scan.failed(0);
    scan.leave(a, ms(2));
    assert_eq!(scan.step(b, ms(2)), Step::Load(0));
}

/// What can happen to a scan.
#[derive(Clone, Copy, Debug)]
enum Act {
    Join,
    Step(usize),
    Loaded,
    Failed,
    Leave(usize),
    Pass(u16),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => Just(Act::Join),
        12 => (0_usize..6).prop_map(Act::Step),
        6 => Just(Act::Loaded),
        1 => Just(Act::Failed),
        1 => (0_usize..6).prop_map(Act::Leave),
        3 => (0_u16..700).prop_map(Act::Pass),
    ]
}

/// A scan, and what each of its readers must get next.
struct Stage {
    scan: Scan,
    now: Moment,
    readers: Vec<(ReaderId, u64)>,
    loading: VecDeque<u64>,
}

impl Stage {
    fn act(&mut self, act: Act) {
        match act {
            Act::Join => {
                let at = self.scan.oldest;
                let joined = self.scan.join(at, self.now).expect("the oldest block is here");
                self.readers.push((joined, at));
            }
            Act::Step(who) => self.step(who),
            Act::Loaded => {
                if let Some(index) = self.loading.pop_front() {
                    self.scan.loaded(index, block(index));
                }
            }
            Act::Failed => {
                if let Some(index) = self.loading.pop_front() {
                    self.scan.failed(index);
                }
            }
            Act::Leave(who) if who < self.readers.len() => {
                let (id, _) = self.readers.remove(who);
                self.scan.leave(id, self.now);
            }
            Act::Leave(_) => {}
            Act::Pass(ms) => self.now = self.now + Duration::from_millis(ms.into()),
        }
    }

    fn step(&mut self, who: usize) {
        let Some((id, expected)) = self.readers.get_mut(who) else { return };
        match self.scan.step(*id, self.now) {
            Step::Take(bytes) => {
                assert_eq!(bytes, block(*expected));
                *expected += 1;
            }
            Step::Load(index) => {
                assert_eq!(index, *expected);
                assert!(!self.loading.contains(&index), "block {index} is being read");
                self.loading.push_back(index);
            }
            Step::Wait(Some(deadline)) => {
                assert!(deadline.at > self.now && deadline.at.since(self.now) <= STALLED_MAX, "{deadline:?}");
            }
            Step::Wait(None) => assert!(self.loading.contains(expected), "nobody reads {expected}"),
            Step::Part(at) => assert_eq!(at, *expected),
            Step::End => assert_eq!(*expected, self.scan.blocks),
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_each_reader_gets_each_block_once_and_the_window_holds(
        acts in proptest::collection::vec(act(), 0..300), blocks in 0_u64..30
    ) {
        let (scan, loading) = (scan(blocks), VecDeque::new());
        let mut stage = Stage { scan, now: Moment::START, readers: Vec::new(), loading };
        for act in acts {
            stage.act(act);
            assert!(stage.scan.kept.len() <= WINDOW);
        }
    }
}
