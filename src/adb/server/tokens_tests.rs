//! Whom a token lets in, and who is slowed.

use std::net::Ipv4Addr;

use super::*;
use crate::rack::access::Role;

const GUESSER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 8));

fn token(id: &str) -> Token {
    Token { id: id.to_owned(), secret: [7; 32], certificate: [9; 32] }
}

fn record(id: &str, role: Role, expires: Option<i64>) -> TokenRecord {
    let (created, expires) = (UnixMillis(0), expires.map(UnixMillis));
    let (owner, secret_sha256) = ("mara".to_owned(), token(id).secret_sha256());
    TokenRecord { id: id.to_owned(), owner, role, secret_sha256, created, expires }
}

fn book() -> TokenBook {
    TokenBook::new([record("00000001", Role::Use, Some(1000)), record("00000002", Role::View, None)])
}

#[test]
fn a_token_is_read_as_it_was_written_and_nothing_else_is_one() {
    let text = token("00c0ffee").emit();
    assert_eq!(Token::parse(&format!(" {text}\n")), Some(token("00c0ffee")));
    assert!(text.starts_with("farmhand1-00c0ffee-0707"), "{text}");
    assert!(!format!("{:?}", token("00c0ffee")).contains("707"), "no log has its secret");
    let short = &text[..text.len() - 2];
    let others = [text.replace("07-", "07-00-"), text.replace("ffee", "ff"), text.replace("07", "zz"), text.repeat(2)];
    for wrong in ["", "farmhand1", short].into_iter().chain(others.iter().map(String::as_str)) {
        assert_eq!(Token::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_digest_is_read_with_and_without_colons() {
    let colons = ["AB"; 32].join(":");
    assert_eq!(parse_digest(&colons), Some([0xab; 32]));
    assert_eq!(parse_digest(&"ab".repeat(32)), Some([0xab; 32]));
    for wrong in ["", "ab", &"ab".repeat(31), &"ab".repeat(33), &"xy".repeat(32)] {
        assert_eq!(parse_digest(wrong), None, "{wrong}");
    }
}

#[test]
fn whoever_has_the_secret_is_let_in_until_the_time_is_over() {
    let book = book();
    let ask = |token: &Token, now| check(&book, token.request().as_bytes(), UnixMillis(now)).map(|record| record.role);
    assert_eq!(ask(&token("00000001"), 999), Ok(Role::Use));
    assert_eq!(ask(&token("00000001"), 1000), Err(TokenError::Expired));
    assert_eq!(ask(&token("00000002"), i64::MAX), Ok(Role::View));
    assert_eq!(ask(&token("00000003"), 0), Err(TokenError::Unknown));
    let guess = Token { secret: [8; 32], ..token("00000001") };
    assert_eq!(ask(&guess, 1000), Err(TokenError::Unknown), "nobody learns that it is over");
    let said = |said: &[u8]| check(&book, said, UnixMillis(0)).map(|record| record.role);
    assert_eq!(said(b"host:version"), Err(TokenError::NotSaid));
    assert_eq!(said(b"\xff"), Err(TokenError::NotSaid));
    for wrong in
        ["farmhand:token:", "farmhand:token:00000001", "farmhand:token:00000001-", "farmhand:token:00000001-zz"]
    {
        assert_eq!(said(wrong.as_bytes()), Err(TokenError::Unknown), "{wrong}");
    }
}

#[test]
fn a_hundred_wrong_tokens_are_slowed_and_told_and_then_a_right_one_is_let_in() {
    let (mut gate, book) = (Gate::default(), book());
    let right = token("00000002").request().into_bytes();
    let guess = Token { secret: [8; 32], ..token("00000002") }.request().into_bytes();
    let mut now = Moment::START;
    let (mut looked_at, mut told) = (0, Vec::new());
    while looked_at < 100 {
        match gate.check(&book, GUESSER, &guess, (now, UnixMillis(0))).unwrap_err() {
            Refused { why: TokenError::Slowed(wait), told: None } => {
                assert!(wait > Duration::ZERO && wait <= WAIT_MAX);
                let early = gate.check(&book, GUESSER, &right, (now, UnixMillis(0))).unwrap_err();
                assert!(matches!(early.why, TokenError::Slowed(_)), "a right one tells a guesser nothing either");
                assert!(gate.check(&book, OTHER, &right, (now, UnixMillis(0))).is_ok(), "nobody else waits");
                now = now + wait;
            }
            refused => {
                assert_eq!(refused.why, TokenError::Unknown);
                looked_at += 1;
                told.extend(refused.told);
            }
        }
    }
    assert!(now.since_start() > Duration::from_secs(5000), "{now}");
    assert_eq!(told, [1, 2, 3, 4, 8, 16, 32, 64]);
    assert!(gate.check(&book, GUESSER, &right, (now + WAIT_MAX, UnixMillis(0))).is_ok());
    let again = gate.check(&book, GUESSER, &guess, (now + WAIT_MAX, UnixMillis(0))).unwrap_err();
    assert_eq!(again.told, Some(1), "a right one is the end of it");
}

#[test]
fn a_crowd_of_addresses_takes_no_more_memory_than_there_is() {
    let (mut gate, book) = (Gate::default(), book());
    for number in 0..10_000_u32 {
        let now = Moment::from_start(Duration::from_millis(number.into()));
        let from = IpAddr::V4(Ipv4Addr::from(number));
        assert!(gate.check(&book, from, b"host:version", (now, UnixMillis(0))).is_err());
    }
    assert_eq!(gate.wrong.len(), ADDRESSES_MAX);
    assert!(gate.wrong.contains_key(&IpAddr::V4(Ipv4Addr::from(9_999))));
}

#[test]
fn one_address_takes_no_place_from_others_before_it_has_said_who_it_is() {
    let mut gate = Gate::default();
    let entered = (0..1000).filter(|_| gate.enter(GUESSER)).count();
    assert_eq!(entered, GREETING_MAX_EACH);
    assert!(gate.enter(OTHER));
    gate.leave(GUESSER);
    assert!(gate.enter(GUESSER) && !gate.enter(GUESSER));
    let crowd = (0..1000_u32).filter(|number| gate.enter(IpAddr::V4(Ipv4Addr::from(*number)))).count();
    assert_eq!(crowd, GREETING_MAX - GREETING_MAX_EACH - 1);
    gate.leave(OTHER);
    assert!(gate.enter(OTHER));
}

#[test]
fn the_addresses_of_one_network_are_one() {
    let address = |text: &str| neighbourhood(text.parse().unwrap());
    assert_eq!(address("2001:db8:1:2::1"), address("2001:db8:1:2:ffff::9"));
    assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
    assert_eq!(address("::ffff:192.0.2.7"), GUESSER);
}
