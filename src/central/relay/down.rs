//! What the centre wants of the phone: under which Id the agent knows it, and what the centre still waits for.
//!
//! Invariant: an Id towards the agent names one message, for as long as the line lives: it is never used again.
//! Invariant: no task is given to an agent twice; one whose acknowledgement did not come is answered by an error
//! (`a_task_that_the_agent_did_not_acknowledge_is_answered_by_an_error_and_not_given_again`).

use std::collections::VecDeque;

/// Tasks whose Ids are known: an answer to an older one names none.
const KNOWN_MAX: usize = 1024;

/// What was given to the agent.
#[derive(Debug)]
pub(super) struct Down {
    next_id: i64,
    known: VecDeque<Given>,
}

#[derive(Clone, Copy, Debug)]
struct Given {
    /// Towards the agent.
    id: i64,
    /// The centre's own.
    message_id: i64,
    msg_type: i32,
    acknowledged: bool,
}

impl Down {
    /// `first_id` is beyond every Id that an earlier daemon has used towards this agent.
    pub(super) fn new(first_id: i64) -> Self {
        Self { next_id: first_id, known: VecDeque::new() }
    }

    /// The one that [`Self::take_id`] will give next.
    pub(super) fn next_id(&self) -> i64 {
        self.next_id
    }

    /// The next Id towards the agent.
    pub(super) fn take_id(&mut self) -> i64 {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        id
    }

    /// The centre's message is given to the agent; under which Id. `wants_word` where an agent acknowledges it.
    pub(super) fn give(&mut self, message_id: i64, msg_type: i32, wants_word: bool) -> i64 {
        let id = self.take_id();
        if self.known.len() >= KNOWN_MAX {
            self.known.pop_front();
        }
        self.known.push_back(Given { id, message_id, msg_type, acknowledged: !wants_word });
        id
    }

    /// What was given last is taken back before the agent has seen it.
    pub(super) fn take_back(&mut self) {
        self.known.pop_back();
    }

    /// The centre's own Id of what the agent calls `id`; 0 if that is nothing of the centre.
    pub(super) fn message_id(&self, id: i64) -> i64 {
        self.find(id).and_then(|at| self.known.get(at)).map_or(0, |given| given.message_id)
    }

    /// The agent has acknowledged, or answered, what it calls `id`: the centre's own Id, the first time.
    pub(super) fn acknowledge(&mut self, id: i64) -> Option<i64> {
        let at = self.find(id)?;
        let given = self.known.get_mut(at)?;
        (!std::mem::replace(&mut given.acknowledged, true)).then_some(given.message_id)
    }

    /// The agent is gone: the tasks that it may not have taken, with their codes, the oldest first.
    pub(super) fn forsake(&mut self) -> Vec<(i64, i32)> {
        let open = self.known.iter_mut().filter(|given| !given.acknowledged);
        open.map(|given| {
            given.acknowledged = true;
            (given.message_id, given.msg_type)
        })
        .collect()
    }

    /// The registration is over: nobody waits for answers any more.
    pub(super) fn nobody_waits(&mut self) {
        self.known.iter_mut().for_each(|given| given.acknowledged = true);
    }

    fn find(&self, id: i64) -> Option<usize> {
        self.known.binary_search_by_key(&id, |given| given.id).ok()
    }
}
