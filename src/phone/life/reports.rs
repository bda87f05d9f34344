//! What a life makes of the actor's reports: one method for each.

use super::{
    AUTHORISE_MAX, AgentPolicy, BOOT_MAX, BOOT_POLL, Bus, CLAIM_MAX, Life, PROBE_EVERY, PROFILE_MAX, PROVISION_RETRY,
    PROVISION_TRIES_MAX, Probe, REFRESH_EVERY, Refresh, State, Wish, Work,
};
use crate::clock::Moment;
use crate::config::Rung;
use crate::phone::{Command, InstallFailure, InstallFailureClass, OpenFault, Profile};
use crate::rack::snapshot::InstalledAgent;

impl Life {
    pub(super) fn claim(&mut self, now: Moment, after: Option<Rung>) -> Vec<Wish> {
        self.enter(now, State::Claiming { until: now + CLAIM_MAX, after }, "its interface is being opened");
        vec![Wish::Actor(Command::Open)]
    }

    pub(super) fn authorisation_wanted(&mut self, now: Moment) -> Vec<Wish> {
        if matches!(self.state, State::Claiming { .. }) {
            let why = "unlock the phone and allow USB debugging for this host";
            self.enter(now, State::Authorising { until: now + AUTHORISE_MAX }, why);
        }
        Vec::new()
    }

    pub(super) fn opened(&mut self, now: Moment) -> Vec<Wish> {
        if !matches!(self.state, State::Claiming { .. } | State::Authorising { .. }) {
            return Vec::new();
        }
        self.profile = None;
        self.enter(now, State::Online { boot_until: now + BOOT_MAX }, "ADB works; its profile is being read");
        self.read_profile(now)
    }

    pub(super) fn open_failed(&mut self, now: Moment, fault: OpenFault, why: &str) -> Vec<Wish> {
        match self.state {
            State::Claiming { after: Some(rung), .. } if fault == OpenFault::Gone => {
                self.bus = Bus::Away;
                self.did_not_return(now, rung)
            }
            State::Claiming { .. } | State::Authorising { .. } if fault == OpenFault::Gone => self.gone(now, why),
            State::Claiming { .. } | State::Authorising { .. } => match fault {
                OpenFault::NoPermission | OpenFault::Busy => self.bar(now, why),
                OpenFault::Unauthorised => self.ask_again(now, why),
                OpenFault::Gone | OpenFault::Protocol => self.fail(now, why),
            },
            _ => Vec::new(),
        }
    }

    pub(super) fn lost(&mut self, now: Moment, why: &str) -> Vec<Wish> {
        if !self.is_connected() {
            return Vec::new();
        }
        self.fail(now, why)
    }

    pub(super) fn read_profile(&mut self, now: Moment) -> Vec<Wish> {
        if matches!(self.refresh, Refresh::Asked { .. }) {
            return Vec::new();
        }
        self.refresh = Refresh::Asked { until: now + PROFILE_MAX };
        vec![Wish::Actor(Command::ReadProfile)]
    }

    pub(super) fn profiled(&mut self, now: Moment, mut profile: Profile) -> Vec<Wish> {
        if !self.is_connected() || !matches!(self.refresh, Refresh::Asked { .. }) {
            return Vec::new();
        }
        self.complete(&mut profile);
        let booted = profile.booted;
        let has_agent = profile.agent.is_some();
        self.profile = Some(profile);
        self.read_at = now;
        self.alive(now);
        self.refresh = Refresh::At(if booted { self.some_time_after(now, REFRESH_EVERY) } else { now + BOOT_POLL });
        match self.state {
            State::Online { .. } if !booted => {
                "ADB works; Android is still starting".clone_into(&mut self.why);
                Vec::new()
            }
            State::Online { .. } if !has_agent && self.installs_agent() => self.provision(now, 0),
            State::Online { .. } => self.ready(now, "everything that was configured for it is done"),
            State::Ready if booted && !has_agent && self.installs_agent() => self.provision(now, 0),
            _ => Vec::new(),
        }
    }

    /// Something was changed on the phone: what is known of it is read again at once.
    pub fn profile_is_old(&mut self, now: Moment) -> Vec<Wish> {
        match self.refresh {
            Refresh::At(_) => self.read_profile(now),
            // An answer under way may be from before the change.
            Refresh::Asked { .. } | Refresh::Off => Vec::new(),
        }
    }

    /// A question that got no answer this time leaves what the same connection told before: an IMEI does not go away, nor does
    /// the agent because the package service was busy.
    fn complete(&self, profile: &mut Profile) {
        let Some(before) = &self.profile else { return };
        if profile.imei.is_none() {
            profile.imei.clone_from(&before.imei);
        }
        if profile.imei.is_none() && profile.android_id.is_none() {
            profile.android_id.clone_from(&before.android_id);
        }
        profile.screen_size = profile.screen_size.or(before.screen_size);
        profile.screen_density_dpi = profile.screen_density_dpi.or(before.screen_density_dpi);
        if !profile.booted && profile.agent.is_none() {
            profile.agent.clone_from(&before.agent);
        }
    }

    /// A phone that somebody holds gets nothing installed; a reading after the lease sees to it.
    fn installs_agent(&self) -> bool {
        self.policy.agent == AgentPolicy::InstallWhereMissing && self.restraint.held.is_none()
    }

    /// Whether an install is under way.
    #[must_use]
    pub fn is_installing(&self) -> bool {
        matches!(self.state, State::Provisioning { work: Work::Agent { .. } | Work::Rollout(_), .. })
    }

    pub(super) fn profile_failed(&mut self, now: Moment, why: &str) -> Vec<Wish> {
        if !self.is_connected() || !matches!(self.refresh, Refresh::Asked { .. }) {
            return Vec::new();
        }
        if self.is_installing() {
            // An install keeps a slow phone busy; the install's own deadline judges it.
            self.refresh = Refresh::At(self.some_time_after(now, REFRESH_EVERY));
            return Vec::new();
        }
        self.fail(now, why)
    }

    pub(super) fn provision(&mut self, now: Moment, tries: u32) -> Vec<Wish> {
        let work = Work::Agent { tries: tries + 1 };
        self.enter(
            now,
            State::Provisioning { until: now + self.install_limit(), work },
            "the agent is being installed",
        );
        vec![Wish::Provision]
    }

    pub(super) fn provisioned(&mut self, now: Moment, agent: InstalledAgent) -> Vec<Wish> {
        if !matches!(self.state, State::Provisioning { work: Work::Agent { .. }, .. }) {
            return Vec::new();
        }
        let why = format!("the agent's version {} was installed", agent.version_name);
        self.upkeep_is_old(now);
        self.remember_agent(agent);
        self.alive(now);
        self.ready(now, &why)
    }

    pub(super) fn provision_failed(&mut self, now: Moment, failure: &InstallFailure) -> Vec<Wish> {
        let State::Provisioning { work: Work::Agent { tries }, .. } = self.state else {
            return Vec::new();
        };
        match failure.class {
            InstallFailureClass::Transient if tries < PROVISION_TRIES_MAX => {
                let at = now + PROVISION_RETRY;
                let work = Work::AgentLater { tries, at };
                self.enter(now, State::Provisioning { until: at, work }, &failure.why);
                Vec::new()
            }
            _ => {
                self.quarantine(now, &format!("the agent could not be installed: {}", failure.why));
                vec![Wish::Actor(Command::Close)]
            }
        }
    }

    pub(super) fn installed(&mut self, now: Moment, result: Result<InstalledAgent, InstallFailure>) -> Vec<Wish> {
        match result {
            Ok(agent) => {
                let why = format!("a rollout installed version {}", agent.version_name);
                self.upkeep_is_old(now);
                self.remember_agent(agent);
                self.alive(now);
                self.ready(now, &why)
            }
            Err(failure) => self.ready(now, &format!("a rollout's install failed: {}", failure.why)),
        }
    }

    pub(super) fn ready(&mut self, now: Moment, why: &str) -> Vec<Wish> {
        self.ladder.succeeded();
        self.enter(now, State::Ready, why);
        if self.probe == Probe::Off {
            self.probe = Probe::At(self.some_time_after(now, PROBE_EVERY));
        }
        self.begin_upkeep(now);
        Vec::new()
    }

    pub(super) fn probe_answered(&mut self, now: Moment) -> Vec<Wish> {
        if self.is_being_probed() {
            self.alive(now);
            self.probe = Probe::At(self.some_time_after(now, PROBE_EVERY));
        }
        Vec::new()
    }

    pub(super) fn probe_failed(&mut self, now: Moment, why: &str) -> Vec<Wish> {
        if !self.is_being_probed() {
            return Vec::new();
        }
        if self.is_installing() {
            self.probe = Probe::At(self.some_time_after(now, PROBE_EVERY));
            return Vec::new();
        }
        self.fail(now, why)
    }
}

/// An install that ended with its actor.
pub(super) fn stuck_install(why: &str) -> InstallFailure {
    InstallFailure { class: InstallFailureClass::Transient, reason: None, why: why.to_owned() }
}
