use proptest::prelude::*;

use super::*;

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn reading(port: u8, current_milliamps: u32, mode: PortMode, attached: bool) -> PortReading {
    PortReading { port: HubPort(port), current_milliamps, mode, attached }
}

const ID: &str = "mfr:cambrionix,mode:main,hw:PP15S,hwid:0x13,fw:1.83,bl:0.12,sn:0000074A,group:-,fc:un";
const HEALTH: &str = "  5V Now (V):     5.25\n  5V Min (V):     5.20\n  5V Max (V):     5.27\n  5V Flags:\n\n  \
                      Temperature Now (C):     37.8\n  Temperature Max (C):     38.2\n  Temperature Flags:\n  Rebooted flag: R";
const STATE: &str = "1, 0000, R D S, 0, 0, x, 0.00\n2, 0491, R A C, 2, 1204, x, 3.21\n3, 0000, R A O, 0, 0, x, 0.00\n\
                     4, 0012, A F, 3, 8123, 7000, 9.80\n5, 0, D B, 0, 0, x, 0";

#[test]
fn the_manuals_examples_are_read() {
    let identity = parse_id(&lines(ID)).unwrap();
    assert_eq!(identity.to_string(), "cambrionix PP15S, firmware 1.83, serial 0000074A");

    let health = parse_health(&lines(HEALTH)).unwrap();
    assert_eq!(health, Health { temperature_celsius: Some(37.8), supply_volts: Some(5.25) });

    assert_eq!(
        parse_state(&lines(STATE)).unwrap(),
        [
            reading(1, 0, PortMode::Sync, false),
            reading(2, 491, PortMode::Charge, true),
            reading(3, 0, PortMode::Off, true),
            reading(4, 12, PortMode::Charge, true),
            reading(5, 0, PortMode::Biased, false),
        ]
    );
}

#[test]
fn case_blanks_extra_lines_and_extra_fields_are_tolerated() {
    let state = "\nPort, Current, Flags\n  1 ,0100,  a  S  r ,0,0,x,0.00,new,fields \n--\n2,7,D o\n\n";
    assert_eq!(
        parse_state(&lines(state)).unwrap(),
        [reading(1, 100, PortMode::Sync, true), reading(2, 7, PortMode::Off, false)]
    );
    let identity = parse_id(&lines("welcome\nMFR: Other Maker , HW :CS16, sn:-")).unwrap();
    assert_eq!(identity.to_string(), "Other Maker CS16");
    let health = parse_health(&lines("temperature   NOW (c):<0.0\nfan: ok")).unwrap();
    assert_eq!(health, Health::default(), "a sensor out of its range knows no figure");
}

#[test]
fn one_unreadable_line_fails_the_whole_set() {
    for (text, field) in [
        ("1, 0, A S\n2, x7, A S", "the current"),
        ("1, 0, A S\n2, -1, A S", "the current"),
        ("1, 0, A S\n2, 99999, A S", "the current"),
        ("1, 0, A S\n2, 0, S", "exactly one of A and D"),
        ("1, 0, A S\n2, 0, A D S", "exactly one of A and D"),
        ("1, 0, A S\n2, 0, A", "exactly one of O"),
        ("1, 0, A S\n2, 0, A S O", "exactly one of O"),
        ("1, 0, A S\n2, 0, AS", "the flags"),
        ("1, 0, A S\n2, 0", "the flags"),
        ("1, 0, A S\n2", "the current"),
        ("1, 0, A S\n300, 0, A S", "the port"),
        ("1, 0, A S\n?, 0, A S", "the port"),
        ("1, 0, A S\n1, 0, A S", "listed once"),
    ] {
        let error = parse_state(&lines(text)).unwrap_err().to_string();
        assert!(error.starts_with("line 2 of the answer to `state`") && error.contains(field), "{text:?}: {error}");
    }
    let gap = parse_state(&lines("1, 0, A S\n3, 0, A S")).unwrap_err();
    assert_eq!(gap.to_string(), "the answer to `state` has no line for port 2");
    assert!(parse_state(&[]).is_err());
    assert!(parse_health(&lines("5V Now (V): five")).unwrap_err().to_string().contains("the 5 V rail"));
    assert!(parse_health(&lines("Temperature Now (C): NaN")).is_err());
    assert!(parse_health(&[]).is_err());
    assert!(parse_id(&lines("5, 0, A S")).is_err());
}

#[test]
fn a_refusal_is_told_in_the_hubs_words() {
    let refusal = lines("*E412: Invalid parameter");
    let expected = HubLineError::Refused { text: "*E412: Invalid parameter".to_owned() };
    assert_eq!(parse_state(&refusal).unwrap_err(), expected);
    assert_eq!(parse_mode(&refusal).unwrap_err(), expected);
    assert_eq!(parse_mode(&[]), Ok(()));
}

#[test]
fn one_port_is_read_from_its_own_line_only() {
    assert_eq!(parse_port(HubPort(3), &lines("3, 5, A S, 0")).unwrap(), reading(3, 5, PortMode::Sync, true));
    let error = parse_port(HubPort(3), &lines("2, 5, A S, 0")).unwrap_err();
    assert_eq!(error.to_string(), "the answer to `state <port>` has no line for port 3");
}

#[test]
fn commands_are_written_as_the_hub_wants_them() {
    let set = Request::SetMode { port: HubPort(3), mode: PortMode::Off };
    assert_eq!([Request::Id, Request::State, set].map(|r| r.to_string()), ["id", "state", "mode off 3"]);
    assert_eq!(Request::PortState(HubPort(12)).to_string(), "state 12");
}

proptest! {
    #[test]
    fn any_lines_are_read_or_refused(text in "[ -~\n]{0,400}") {
        fuzz_hub_lines(text.as_bytes());
    }

    #[test]
    fn what_a_hub_prints_is_what_is_read(ports in proptest::collection::vec((0_u32..=20_000, any::<bool>(), 0_usize..7), 1..32)) {
        let flags = ['O', 'S', 'B', 'I', 'P', 'C', 'F'];
        let text: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(i, (current, attached, flag))| {
                format!("{}, {current:04}, R {} {}, 0, 0, x, 0.00", i + 1, if *attached { 'A' } else { 'D' }, flags[*flag])
            })
            .collect();
        let read = parse_state(&text).unwrap();
        prop_assert_eq!(read.len(), ports.len());
        for (reading, (current, attached, flag)) in read.iter().zip(&ports) {
            prop_assert_eq!(reading.current_milliamps, *current);
            prop_assert_eq!(reading.attached, *attached);
            prop_assert_eq!(Some(reading.mode), mode_of_flag(flags[*flag]));
        }
    }
}
