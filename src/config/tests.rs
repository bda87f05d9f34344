use std::path::Path;
use std::time::Duration;

use super::*;
use proptest::prelude::*;

fn parsed(text: &str) -> Result<Loaded, Invalid> {
    parse("farmhand.toml", text, Path::new("/etc/farmhand"), "pi-7")
}

fn problems(text: &str) -> Vec<String> {
    let invalid = parsed(text).expect_err("it should not be taken");
    invalid.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_file_only_observes() {
    let config = parsed("").unwrap().config;
    assert_eq!(config, Config { rack_name: "pi-7".to_owned(), ..observing() });
    assert_eq!((config.agent, config.central, config.mqtt), (None, None, None));
    assert_eq!(config.recovery.max_rung, Rung::Reopen);
    assert_eq!(config.web.unwrap().listen.to_string(), "127.0.0.1:8420");
}

#[test]
fn the_example_only_observes_as_it_stands() {
    assert_eq!(parsed(EXAMPLE).unwrap().config, parsed("").unwrap().config);
}

/// The example with each commented key switched on, which must be allowed too.
fn example_switched_on() -> String {
    let key = |line: &str| {
        let commented = line.strip_prefix("# ")?;
        let is_code =
            commented.starts_with('[') || commented.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        is_code.then(|| commented.to_owned())
    };
    EXAMPLE.lines().map(|line| key(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

#[test]
fn the_example_with_everything_switched_on_is_allowed() {
    let config = parsed(&example_switched_on()).unwrap_or_else(|e| panic!("{:?}", miette::Report::new(e))).config;
    let slot = &config.slots[0];
    assert_eq!(slot.endpoint.to_string(), "usb:1-2.3");
    assert_eq!(slot.power, Some((HubName::new("H1"), HubPort(3))));
    assert_eq!(config.agent.unwrap().apk.unwrap(), Path::new("/etc/farmhand/agent.apk"));
    let central = config.central.unwrap();
    assert_eq!(central.heartbeat, Duration::from_secs(60));
    assert_eq!(central.identity.sims, Sims::Told);
    let Credential::Map(map) = central.identity.credential else { panic!("a table is given") };
    assert_eq!(map.entries["A1"], "490154203237518");
    assert_eq!(config.mqtt.unwrap().user.unwrap().0, "farmhand");
}

#[test]
fn what_is_shown_means_the_same_when_it_is_read() {
    for text in ["", EXAMPLE, &example_switched_on()] {
        let loaded = parsed(text).unwrap();
        let shown = loaded.show();
        let again = parsed(&shown).unwrap_or_else(|e| panic!("{shown}\n{:?}", miette::Report::new(e)));
        assert_eq!(again.config, loaded.config, "{shown}");
    }
}

#[test]
fn a_table_of_credentials_may_be_a_file_whose_faults_have_lines() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[central]\nserver = \"c:1\"\n[central.identity]\ncredential = \"map\"\nmap = \"phones.csv\"\n";
    let read = || parse("farmhand.toml", text, dir.path(), "pi-7");
    std::fs::write(dir.path().join("phones.csv"), "phone,credential\nA1,350-1\n").unwrap();
    let loaded = read().unwrap();
    let again = parse("farmhand.toml", &loaded.show(), Path::new("/"), "pi-7").unwrap();
    assert_eq!(again.config, loaded.config, "{}", loaded.show());
    let Credential::Map(map) = loaded.config.central.unwrap().identity.credential else { panic!("a table is given") };
    assert_eq!(map.entries["A1"], "350-1");

    std::fs::write(dir.path().join("phones.csv"), "phone,credential\nA1 350-1\n").unwrap();
    let problem = read().unwrap_err().problems[0].to_string();
    assert!(problem.ends_with("phones.csv: line 2: expected 2 values with a comma between, seen 1"), "{problem}");
}

#[test]
fn what_was_left_out_is_marked_as_a_default() {
    let shown = parsed("[central]\nserver = \"c:1\"\nheartbeat_s = 7\n").unwrap().show();
    assert!(shown.contains("heartbeat_s = 7\n"), "{shown}");
    assert!(shown.contains("grace_s = 90  # default\n"), "{shown}");
    assert!(shown.contains("# [mqtt] is off"), "{shown}");
}

#[test]
fn every_problem_is_shown_at_once() {
    let text = r#"
[central]
sever = "centre:9200"
heartbeat_s = 0

[[slot]]
name = "A1"
path = "one"

[rollout]
waves = [1, 0]
"#;
    assert_eq!(
        problems(text),
        [
            "[central] needs `server`",
            "[central] has no key `sever`",
            "`heartbeat_s` in [central] must be whole seconds from 1 to 86400",
            "`path` in [[slot]] must be a USB port path in quotes such as \"1-2.3\"",
            "`waves` in [rollout] must be a number of phones from 1 to 10000 or a share such as \"5%\"",
        ]
    );
}

#[test]
fn nothing_is_claimed_twice() {
    let text = r#"
[[hub]]
name = "H1"
device = "/dev/ttyUSB0"
[[hub]]
name = "H1"
device = "/dev/ttyUSB0"
[[slot]]
name = "A1"
path = "1-2"
hub = "H1"
port = 3
[[slot]]
name = "A1"
endpoint = "usb:1-2"
hub = "H1"
port = 3
"#;
    assert_eq!(
        problems(text),
        [
            "the hub name `H1` is used twice",
            "the serial device `/dev/ttyUSB0` is used twice",
            "the slot name `A1` is used twice",
            "the place of a phone `usb:1-2` is used twice",
            "the port of a hub `H1 port 3` is used twice",
        ]
    );
}

#[test]
fn a_slot_says_once_and_wholly_where_its_phone_is() {
    let slot = |keys: &str| problems(&format!("[[slot]]\nname = \"A1\"\n{keys}"));
    assert_eq!(slot(""), ["[[slot]] does not say where its phone is reached"]);
    assert_eq!(
        slot("path = \"1-2\"\nendpoint = \"tcp:10.0.0.1:5555\""),
        ["[[slot]] says twice where its phone is reached"]
    );
    assert_eq!(slot("path = \"1-2\"\nport = 3"), ["[[slot]] names only half of what feeds it"]);
    assert_eq!(slot("path = \"1-2\"\nhub = \"H1\"\nport = 3"), ["no [[hub]] is called `H1`"]);
}

#[test]
fn a_section_in_the_wrong_brackets_is_told_the_right_ones() {
    assert_eq!(
        problems("[slot]\nname = \"A1\""),
        ["there may be several of `slot`, so it is written in double brackets"]
    );
    assert_eq!(problems("[[web]]\nlisten = \"off\""), ["`web` is a table, but array was written"]);
    assert_eq!(problems("[[slots]]\nname = \"A1\""), ["there is no section [[slots]]"]);
}

#[test]
fn a_slip_in_a_sections_name_is_told_as_such_with_the_nearest() {
    let helps = |text: &str| {
        let invalid = parse("farmhand.toml", text, Path::new("/etc/farmhand"), "host").unwrap_err();
        invalid
            .problems
            .iter()
            .map(|problem| miette::Diagnostic::help(problem).unwrap().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(problems("[rakc]\nname = \"r\""), ["there is no section [rakc]"]);
    assert!(helps("[rakc]\nname = \"r\"")[0].starts_with("did you mean [rack]? Sections: [adb_server], [agent], "));
    assert!(helps("[[slots]]\nname = \"A1\"")[0].starts_with("did you mean [[slot]]?"));
    assert_eq!(problems("[central]\nserver = \"c:1\"\n[central.identiy]\n"), ["there is no section [central.identiy]"]);
    assert_eq!(
        problems("rack = 7\nnam = 1"),
        ["`rack` is a table, but integer was written", "the file has no key `nam`"]
    );
}

#[test]
fn a_map_of_credentials_is_wanted_exactly_when_it_is_used() {
    let central = |keys: &str| problems(&format!("[central]\nserver = \"c:1\"\n[central.identity]\n{keys}"));
    assert_eq!(central("credential = \"map\""), ["[central.identity] has credential = \"map\" and no map"]);
    assert_eq!(
        central("credential = \"imei\"\n[central.identity.map]\nA1 = \"1\""),
        ["`map` in [central.identity] would not be used"]
    );
    assert_eq!(
        central("credential = \"map\"\n[central.identity.map]\nA1 = 7"),
        ["`A1` in [central.identity.map] must be a text"]
    );
}

#[test]
fn a_password_needs_its_user() {
    assert_eq!(problems("[mqtt]\nbroker = \"b:1883\"\nuser = \"me\""), ["[mqtt] names only half of how to log in"]);
}

#[test]
fn a_certificate_may_be_written_as_tools_print_it() {
    let colons = ["AB"; 32].join(":");
    let text = format!("[agent]\npackage = \"org.example.agent\"\nsigners = [\"{colons}\"]");
    assert_eq!(parsed(&text).unwrap().config.agent.unwrap().signers, ["ab".repeat(32)]);
}

#[test]
fn text_that_is_not_toml_is_shown_as_such() {
    let found = problems("[web\nlisten = ");
    assert!(found.iter().all(|what| what.starts_with("this is not TOML")), "{found:?}");
}

proptest! {
    /// Half-right files reach deeper than random text.
    #[test]
    fn no_text_makes_it_panic(lines in proptest::collection::vec(
        prop_oneof![
            "\\PC{0,40}",
            "\\[{1,2}(slot|hub|agent|central|central.identity|central.identity.map|mqtt|web|recovery|rollout|usb)\\]{1,2}",
            "(name|path|endpoint|hub|port|device|server|waves|signers|listen|scan|credential) = (\"[a-z0-9:.-]{0,12}\"|[0-9]{1,20}|\\[[0-9, ]{0,8}\\]|true|\\{\\}|1e3)",
        ],
        0..12,
    )) {
        if let Err(invalid) = parsed(&lines.join("\n")) {
            prop_assert!(!invalid.problems.is_empty());
            let _ = format!("{:?}", miette::Report::new(invalid));
        }
    }
}

#[test]
fn slots_at_an_address_of_the_network_need_keys_and_keys_need_such_slots() {
    let adb = |keys: &str| problems(&format!("[adb_server]\nslot_base = 7401\n{keys}"));
    for keys in ["slot_listen = \"0.0.0.0\"\nkeys = [\"mara.pub\"]", "slot_listen = \"127.0.0.1\""] {
        parsed(&format!("[adb_server]\nslot_base = 7401\n{keys}")).unwrap();
    }
    for keys in ["", "keys = []"] {
        let told = adb(&format!("slot_listen = \"192.0.2.7\"\n{keys}"));
        assert_eq!(told, ["at 192.0.2.7 whoever reaches this host could use the phones, and no keys are listed"]);
    }
    let unused = "`keys` in [adb_server] would not be used: on this host's loopback nobody is asked for one";
    assert_eq!(adb("keys = [\"mara.pub\"]"), [unused]);
    assert_eq!(
        problems("[adb_server]\nslot_listen = \"0.0.0.0\"\nkeys = [\"mara.pub\"]"),
        ["`slot_listen` in [adb_server] has no ports to listen on"]
    );
}

#[test]
fn a_certificate_is_whole_and_only_where_tls_is_spoken() {
    let adb = |lines: &str| problems(&format!("[adb_server]\n{lines}"));
    let parsed = parsed("[adb_server]\nlisten = \"0.0.0.0:5038\"\ncert = \"a.crt\"\nkey = \"/k/a.key\"").unwrap();
    let files = parsed.config.adb_server.certificate.unwrap();
    assert!(files.cert.ends_with("a.crt") && files.key == Path::new("/k/a.key"));
    let half = ["[adb_server] names only half of a certificate"];
    assert_eq!(adb("listen = \"0.0.0.0:5038\"\ncert = \"a.crt\""), half);
    assert_eq!(adb("listen = \"0.0.0.0:5038\"\nkey = \"a.key\""), half);
    let unused = ["`cert` and `key` in [adb_server] would not be used: on this host's loopback no TLS is spoken"];
    for listen in ["", "listen = \"127.0.0.1:5037\"\n", "listen = \"off\"\n"] {
        assert_eq!(adb(&format!("{listen}cert = \"a.crt\"\nkey = \"a.key\"")), unused, "{listen}");
    }
}
