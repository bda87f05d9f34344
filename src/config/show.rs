//! The configuration in force, written as the file that would say all of it: each key that the owner left out is marked.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::rack::gates::{Gate, Gates};

use super::{
    Allowance, Announce, BatteryUse, CentralTls, Config, Credential, IdentityMap, Loaded, Pin, Policy, PolicyGroup,
    SettingsTable, Sims, Trust, Upkeep, Usb, Warn,
};

impl Loaded {
    /// The effective configuration as TOML; what was not typed ends in `# default`, sections that are off are comments.
    #[must_use]
    pub fn show(&self) -> String {
        let mut page = Page { text: String::new(), given: &self.given };
        page.section("rack");
        page.key("name", &quoted(&self.config.rack_name));
        page.places(&self.config);
        page.agent(&self.config);
        page.central(&self.config);
        page.policy(&self.config.policy);
        page.mqtt(&self.config);
        page.rest(&self.config);
        page.text
    }
}

struct Page<'g> {
    text: String,
    given: &'g BTreeSet<String>,
}

impl Page<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Opens `[name]`; the keys that follow are its.
    fn section(&mut self, name: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let _ = writeln!(self.text, "[{name}]");
    }

    fn off(&mut self, name: &str, example: &str) {
        let _ = writeln!(self.text, "\n# [{name}] is off; to switch it on: {example}");
    }

    /// A key of the section that was opened last.
    fn key(&mut self, key: &str, value: &str) {
        let section = self.text.lines().rev().find_map(|line| line.strip_prefix('[')?.strip_suffix(']'));
        let path = format!("{}.{key}", section.unwrap_or_default());
        let mark = if self.given.contains(&path) { "" } else { "  # default" };
        let _ = writeln!(self.text, "{key} = {value}{mark}");
    }

    fn places(&mut self, config: &Config) {
        for hub in &config.hubs {
            let (name, device) = (quoted(hub.name.as_str()), quoted(&hub.device.display().to_string()));
            self.line(&format!("\n[[hub]]\nname = {name}\ndevice = {device}"));
        }
        for slot in &config.slots {
            let (name, endpoint) = (quoted(slot.name.as_str()), quoted(&slot.endpoint.to_string()));
            self.line(&format!("\n[[slot]]\nname = {name}\nendpoint = {endpoint}"));
            if !slot.labels.is_empty() {
                let labels: Vec<String> = slot.labels.iter().map(|label| quoted(label.as_str())).collect();
                self.line(&format!("labels = [{}]", labels.join(", ")));
            }
            if let Some((hub, port)) = &slot.power {
                self.line(&format!("hub = {}\nport = {port}", quoted(hub.as_str())));
            }
        }
    }

    fn agent(&mut self, config: &Config) {
        let Some(agent) = &config.agent else {
            return self.off("agent", "package = \"org.example.agent\", apk = \"/etc/farmhand/agent.apk\"");
        };
        self.section("agent");
        if let Some(apk) = &agent.apk {
            self.key("apk", &quoted(&apk.display().to_string()));
        }
        self.key("package", &quoted(agent.package.as_str()));
        self.key("signers", &list(agent.signers.iter().map(|signer| quoted(signer))));
        self.upkeep(&agent.upkeep);
    }

    fn upkeep(&mut self, upkeep: &Upkeep) {
        self.key("permissions", &list(upkeep.permissions.iter().map(|permission| quoted(permission.as_str()))));
        self.key("battery_exempt", if upkeep.battery == BatteryUse::Exempt { "true" } else { "false" });
        if let Some(start) = &upkeep.start {
            self.key("start", &quoted(&start.to_string()));
        }
        self.key("health", &quoted(&upkeep.health.to_string()));
        self.key("check_s", &upkeep.every.as_secs().to_string());
        for table in SettingsTable::ALL {
            let mut settings = upkeep.settings.iter().filter(|(name, _)| name.table == table).peekable();
            if settings.peek().is_some() {
                self.line(&format!("\n[agent.settings.{}]", table.as_str()));
            }
            for (name, value) in settings {
                self.line(&format!("{} = {}", quoted(name.key()), quoted(value.as_str())));
            }
        }
    }

    fn central(&mut self, config: &Config) {
        let Some(central) = &config.central else { return self.off("central", "server = \"centre.example:9200\"") };
        self.section("central");
        self.key("server", &quoted(&central.server));
        self.key("fallbacks", &list(central.fallbacks.iter().map(|server| quoted(server))));
        self.key("heartbeat_s", &central.heartbeat.as_secs().to_string());
        self.key("max_frame", &central.max_frame.to_string());
        self.key("grace_s", &central.grace.as_secs().to_string());
        self.key("mode", &quoted(central.relay.mode.as_str()));
        self.key("agent_port", &central.relay.agent_port.0.to_string());
        self.key("ack", &quoted(central.ack.as_str()));
        if !central.relay.modes.is_empty() {
            self.line("\n[central.modes]");
            for (phone, mode) in &central.relay.modes {
                self.line(&format!("{} = {}", quoted(phone), quoted(mode.as_str())));
            }
        }
        self.central_tls(central.tls.as_ref());
        self.central_warn(&central.warn);
        self.section("central.outbox");
        self.key("max_mb", &central.outbox.max_mb.to_string());
        self.key("max_age_h", &(central.outbox.max_age.as_secs() / 3600).to_string());
        self.key("per_second", &central.outbox.per_second.to_string());
        self.section("central.identity");
        let word = match &central.identity.credential {
            Credential::Imei => "imei",
            Credential::Serial => "serial",
            Credential::Map(_) => "map",
        };
        self.key("credential", &quoted(word));
        self.key("send_sim", if central.identity.sims == Sims::Told { "true" } else { "false" });
        match &central.identity.credential {
            Credential::Map(IdentityMap { file: Some(file), .. }) => {
                self.key("map", &quoted(&file.display().to_string()));
            }
            Credential::Map(IdentityMap { file: None, entries }) => {
                self.line("\n[central.identity.map]");
                for (key, credential) in entries {
                    self.line(&format!("{} = {}", quoted(key), quoted(credential)));
                }
            }
            Credential::Imei | Credential::Serial => {}
        }
    }

    fn central_tls(&mut self, tls: Option<&CentralTls>) {
        let Some(tls) = tls else {
            return self.off("central.tls", "write the section; alone it trusts whom this host trusts");
        };
        self.section("central.tls");
        let file = |file: &Path| quoted(&file.display().to_string());
        match &tls.trust {
            Trust::System => self.line("# the host's own authorities are trusted"),
            Trust::Authorities(ca) => self.key("ca", &file(ca)),
            Trust::Pinned(pins) => {
                let pin = |pin: &Pin| match pin {
                    Pin::Sha256(digest) => quoted(&base16ct::lower::encode_string(digest)),
                    Pin::File(pem) => file(pem),
                };
                self.key("pin", &list(pins.iter().map(pin)));
            }
        }
        if let Some(client) = &tls.client {
            self.key("cert", &file(&client.cert));
            self.key("key", &file(&client.key));
        }
    }

    fn central_warn(&mut self, warn: &Warn) {
        self.section("central.warn");
        let mut threshold = |key, number: Option<u32>| {
            self.key(key, &number.map_or_else(|| quoted("off"), |number| number.to_string()));
        };
        threshold("battery_below", warn.battery_below_percent.map(u32::from));
        threshold("storage_below_mb", warn.storage_below_mb);
        threshold("temperature_above", warn.temperature_above_celsius.map(u32::from));
    }

    fn policy(&mut self, policy: &Policy) {
        self.section("policy");
        for (key, group) in [("device", PolicyGroup::Device), ("unknown", PolicyGroup::Unknown)] {
            match policy.allowed.get(&group) {
                None => self.key(key, "\"refuse\""),
                Some(allowance) if *allowance == Allowance::default() => self.key(key, "\"allow\""),
                Some(_) => {}
            }
        }
        if let Some(hours) = policy.quiet_hours {
            self.key("quiet_hours", &quoted(&hours.to_string()));
        }
        let said = |group: &PolicyGroup, allowance: &Allowance| {
            !matches!(group, PolicyGroup::People(_)) && *allowance == Allowance::default()
        };
        for (group, allowance) in policy.allowed.iter().filter(|(group, allowance)| !said(group, allowance)) {
            let Allowance { rate, quiet_hours } = allowance;
            let (group, per_minute, burst) = (quoted(group.name()), rate.per_minute, rate.burst);
            self.line(&format!("\n[[policy.allow]]\ngroup = {group}\nper_minute = {per_minute}\nburst = {burst}"));
            if let Some(hours) = quiet_hours {
                self.line(&format!("quiet_hours = {}", quoted(&hours.to_string())));
            }
        }
    }

    fn gates(&mut self, gates: &Gates) {
        self.section(concat!("rollout", ".gates"));
        for gate in Gate::ALL {
            let least = gates.on().find(|(on, _)| *on == gate).map(|(_, least)| least.to_string());
            self.key(gate.as_str(), &quoted(least.as_deref().unwrap_or("off")));
        }
    }

    fn mqtt(&mut self, config: &Config) {
        let Some(mqtt) = &config.mqtt else { return self.off("mqtt", "broker = \"127.0.0.1:1883\"") };
        self.section("mqtt");
        self.key("broker", &quoted(&mqtt.broker));
        if let Some((user, password_file)) = &mqtt.user {
            self.key("user", &quoted(user));
            self.key("password_file", &quoted(&password_file.display().to_string()));
        }
        self.key("discovery_prefix", &quoted(mqtt.discovery_prefix.as_deref().unwrap_or("off")));
        self.key("health_s", &mqtt.health_interval.as_secs().to_string());
    }

    fn rest(&mut self, config: &Config) {
        self.section("web");
        match &config.web {
            Some(web) => {
                self.key("listen", &quoted(&web.listen.to_string()));
                self.key("announce", if web.announce == Announce::Mdns { "\"mdns\"" } else { "\"off\"" });
            }
            None => self.key("listen", "\"off\""),
        }
        self.section("adb_server");
        match config.adb_server.listen {
            Some(listen) => self.key("listen", &quoted(&listen.to_string())),
            None => self.key("listen", "\"off\""),
        }
        if let Some(files) = &config.adb_server.certificate {
            self.key("cert", &quoted(&files.cert.display().to_string()));
            self.key("key", &quoted(&files.key.display().to_string()));
        }
        if let Some(base) = config.adb_server.slot_base {
            self.key("slot_base", &base.to_string());
        }
        if let Some(listen) = config.adb_server.slot_listen {
            self.key("slot_listen", &quoted(&listen.to_string()));
        }
        if !config.adb_server.keys.is_empty() {
            let keys = config.adb_server.keys.iter().map(|key| quoted(&key.display().to_string()));
            self.key("keys", &list(keys));
        }
        self.section("recovery");
        self.key("max_rung", &quoted(config.recovery.max_rung.as_str()));
        self.section("rollout");
        let rollout = &config.rollout;
        let share = |share: String| if share.ends_with('%') { quoted(&share) } else { share };
        self.key("waves", &list(rollout.strategy.waves.iter().map(|size| share(size.to_string()))));
        self.key("approve", &quoted(rollout.strategy.approve.as_str()));
        self.key("soak_s", &rollout.strategy.soak_s.to_string());
        self.key("max_failures", &share(rollout.strategy.max_failures.to_string()));
        self.key("on_failure", &quoted(rollout.strategy.on_failure.as_str()));
        self.key("retries", &rollout.strategy.retries.to_string());
        self.key("join", &quoted(rollout.strategy.join.as_str()));
        self.key("close_after_s", &rollout.strategy.close_after_s.to_string());
        let limits = &rollout.strategy.limits;
        self.key("at_once", &limits.at_once.to_string());
        self.key("at_once_per_hub", &limits.at_once_per_hub.to_string());
        self.key("battery_min", &limits.battery_min_percent.to_string());
        self.key("temperature_max", &limits.temperature_max_celsius.to_string());
        self.key("fit_within_s", &limits.fit_within_s.to_string());
        self.key("windows", &list(rollout.windows.each.iter().map(|window| quoted(&window.to_string()))));
        self.key("time_zone", &quoted(rollout.windows.zone.name()));
        self.key("gather_s", &rollout.gather.as_secs().to_string());
        self.key("install_timeout_s", &rollout.install_timeout.as_secs().to_string());
        self.key("sources", &list(rollout.sources.iter().map(|source| quoted(source))));
        self.key("from_central", &quoted(rollout.from_central.as_str()));
        self.key("delivery", &quoted(rollout.delivery.as_str()));
        self.gates(&rollout.strategy.gates);
        self.section("usb");
        self.key("scan", if config.usb == Usb::Scan { "true" } else { "false" });
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}
