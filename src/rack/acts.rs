//! What the central server may have done with a handset, agent or no agent: a restart of Android, a restart of the agent.
//!
//! Invariant: each act that was asked for is answered once: when it is refused, when it has failed, or when the phone is back
//! (`a_restart_that_the_centre_asked_for_is_answered_when_the_phone_is_back`).
//! Invariant: of the whole rack, at most so many acts of a kind are begun within [`ACTS_WINDOW`], whatever the policy allows for each phone
//! (`a_centre_that_restarts_every_phone_is_held_to_the_limit_of_the_rack`). The limits count within one run of the daemon.

use std::collections::VecDeque;
use std::time::Duration;

use super::event::{Act, Asked, Command, TaskName};
use super::ids::{Endpoint, PhoneId};
use super::{Outcome, Rack};
use crate::clock::Moment;
use crate::phone;

/// The window of [`RESTARTS_MAX`] and [`AGENT_RESTARTS_MAX`].
pub(super) const ACTS_WINDOW: Duration = Duration::from_secs(10 * 60);
/// The most phones that are restarted for the centre within [`ACTS_WINDOW`]: a slip there must not take a rack away at once.
pub(super) const RESTARTS_MAX: usize = 8;
/// The most agents that are restarted for the centre within [`ACTS_WINDOW`].
pub(super) const AGENT_RESTARTS_MAX: usize = 32;

/// When the acts that still count against the rack's limits were begun, the first one first.
#[derive(Clone, Debug, Default)]
pub(super) struct ActsBegun {
    restarts: VecDeque<Moment>,
    agents: VecDeque<Moment>,
}

impl ActsBegun {
    /// Counts one more act.
    ///
    /// # Errors
    /// There were too many: why, as a sentence.
    pub(super) fn begin(&mut self, now: Moment, act: Act) -> Result<(), String> {
        let (begun, max, what) = match act {
            Act::Restart => (&mut self.restarts, RESTARTS_MAX, "phones"),
            Act::RestartAgent => (&mut self.agents, AGENT_RESTARTS_MAX, "agents"),
        };
        while begun.front().is_some_and(|first| *first + ACTS_WINDOW <= now) {
            begun.pop_front();
        }
        match begun.front().filter(|_| begun.len() >= max) {
            None => {
                begun.push_back(now);
                Ok(())
            }
            Some(first) => {
                let (minutes, rest) = (ACTS_WINDOW.as_secs() / 60, (*first + ACTS_WINDOW).since(now).as_secs() + 1);
                Err(format!(
                    "this rack restarts at most {max} {what} in {minutes} min for the central server: the next one in {rest} s"
                ))
            }
        }
    }
}

/// What was asked for of one phone and has not ended: at most one act of a kind.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingActs {
    restart: Option<TaskName>,
    agent: Option<TaskName>,
}

impl PendingActs {
    fn of(&mut self, act: Act) -> &mut Option<TaskName> {
        match act {
            Act::Restart => &mut self.restart,
            Act::RestartAgent => &mut self.agent,
        }
    }
}

impl Rack {
    /// The centre asks for something, which its policy allows.
    pub(super) fn asked(&mut self, now: Moment, id: &PhoneId, asked: Asked, out: &mut Outcome) {
        let may = self.may_act(id, asked.act);
        let endpoint = match may.and_then(|endpoint| self.acts.begin(now, asked.act).map(|()| endpoint)) {
            Ok(endpoint) => endpoint,
            Err(why) => return self.tell_end(id, asked.task, Err(why), out),
        };
        let Some(phone) = self.phones.get_mut(id) else { return };
        *phone.asked.of(asked.act) = Some(asked.task);
        match asked.act {
            Act::Restart => self.on_place(now, &endpoint, out, |life| life.restart(now, "the central server")),
            Act::RestartAgent => {
                out.commands.push(Command::Phone { endpoint, command: phone::Command::RestartAgent });
            }
        }
    }

    /// Where the act can be carried out.
    ///
    /// # Errors
    /// Why it cannot, as a sentence.
    fn may_act(&mut self, id: &PhoneId, act: Act) -> Result<Endpoint, String> {
        if let Some(why) = self.held_by(id) {
            return Err(why);
        }
        let phone = self.phones.get_mut(id).ok_or("the phone is not here")?;
        if phone.asked.of(act).is_some() {
            return Err("the same was asked for before, and is under way".to_owned());
        }
        let endpoint = phone.place.clone().ok_or("the phone is not here")?;
        let life = &self.places.get(&endpoint).ok_or("the phone is not here")?.life;
        if !life.is_connected() {
            return Err(format!("the phone is {}: {}", life.state().as_str(), life.why()));
        }
        if life.is_installing() {
            return Err(format!("an install is under way: {}", life.why()));
        }
        let has_agent = phone.profile.as_ref().is_some_and(|profile| profile.agent.is_some());
        if act == Act::RestartAgent && !has_agent {
            return Err("no agent that this rack knows is installed on the phone".to_owned());
        }
        Ok(endpoint)
    }

    /// Tells the centre what has become of the acts that end with the state of the phone at `endpoint`.
    pub(super) fn answer_acts(&mut self, endpoint: &Endpoint, id: &PhoneId, out: &mut Outcome) {
        let Some(phone) = self.phones.get_mut(id).filter(|phone| phone.place.as_ref() == Some(endpoint)) else {
            return;
        };
        let Some(life) = self.places.get_mut(endpoint).map(|place| &mut place.life) else { return };
        let mut ended = Vec::new();
        if let Some(result) = life.take_restarted()
            && let Some(task) = phone.asked.restart.take()
        {
            ended.push((task, result));
        }
        if !life.is_connected()
            && let Some(task) = phone.asked.agent.take()
        {
            ended.push((task, Err(format!("the connection to the phone ended meanwhile: {}", life.why()))));
        }
        for (task, result) in ended {
            phone.line.report_end(id, task, result, &mut out.commands);
        }
    }

    /// The actor of the phone at `endpoint` has started the agent again, or could not.
    pub(super) fn agent_restarted(&mut self, endpoint: &Endpoint, result: &Result<(), String>, out: &mut Outcome) {
        let Some(id) = self.phone_at(endpoint).cloned() else { return };
        let Some(task) = self.phones.get_mut(&id).and_then(|phone| phone.asked.agent.take()) else { return };
        self.tell_end(&id, task, result.clone(), out);
    }

    fn tell_end(&mut self, id: &PhoneId, task: TaskName, result: Result<(), String>, out: &mut Outcome) {
        if let Some(phone) = self.phones.get_mut(id) {
            phone.line.report_end(id, task, result, &mut out.commands);
        }
    }
}
