//! What the central server may have done with a handset, agent or no agent: a restart of Android, a restart of the agent.
//!
//! Invariant: each act that was asked for is answered once: when it is refused, when it has failed, or when the phone is back
//! (`a_restart_that_the_centre_asked_for_is_answered_when_the_phone_is_back`).

use super::event::{Act, Asked, Command, TaskName};
use super::ids::{Endpoint, PhoneId};
use super::{Outcome, Rack};
use crate::clock::Moment;
use crate::phone;

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
        let endpoint = match self.may_act(id, asked.act) {
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
