//! The list as Google's server shows it, and whom it chooses.

use super::*;
use crate::adb::server::request::{Host, Request};

fn view(id: &str, slot: Option<&str>, endpoint: &str, state: PhoneState) -> PhoneView {
    let mut phone = PhoneView::unknown(PhoneId::new(id));
    phone.slot = slot.map(SlotName::new);
    phone.endpoint = Some(endpoint.parse().unwrap());
    phone.state = state;
    phone
}

fn pixel() -> Arc<Banner> {
    Arc::new(Banner::parse(
        b"device::ro.product.name=oriole;ro.product.model=Pixel 6;ro.product.device=raven;features=shell_v2,cmd,apex",
    ))
}

/// The phones at these endpoints are connected.
fn list(phones: &[PhoneView], connected: &[&str]) -> DeviceList {
    let connection = |endpoint: &Endpoint| {
        let seat = connected.iter().position(|known| *known == endpoint.to_string())?;
        Some((seat as u64, pixel()))
    };
    Numbers::default().list(phones, connection)
}

fn two() -> DeviceList {
    let usb = view("R5CW2355X", Some("A1"), "usb:1-2.3", PhoneState::Ready);
    let tcp = view("127.0.0.1:6555", Some("A2"), "tcp:127.0.0.1:6555", PhoneState::Online);
    list(&[usb, tcp], &["usb:1-2.3", "tcp:127.0.0.1:6555"])
}

fn chosen(list: &DeviceList, name: &str) -> Result<String, String> {
    list.choose(&Target::Named(name.to_owned()), Condition::Connected).map(|device| device.phone.to_string())
}

fn waited(list: &DeviceList, request: &str) -> Option<Result<(), String>> {
    match Request::parse(request.as_bytes()) {
        Ok(Request::Host(Host::WaitFor(wait))) => list.awaited(&wait),
        other => panic!("{request}: {other:?}"),
    }
}

#[test]
fn the_short_list_is_googles() {
    assert_eq!(two().text(Listing::Short), "R5CW2355X\tdevice\n127.0.0.1:6555\tdevice\n");
    assert_eq!(DeviceList::default().text(Listing::Short), "");
}

#[test]
fn the_long_list_is_googles_with_the_slot_before_the_number() {
    let expected = "R5CW2355X              device usb:1-2.3 product:oriole model:Pixel_6 device:raven slot:A1 transport_id:1\n\
                    127.0.0.1:6555         device product:oriole model:Pixel_6 device:raven slot:A2 transport_id:2\n";
    assert_eq!(two().text(Listing::Long), expected);
}

#[test]
fn a_phone_answers_to_its_serial_slot_place_and_model() {
    let list = two();
    for name in ["R5CW2355X", "A1", "usb:1-2.3"] {
        assert_eq!(chosen(&list, name).as_deref(), Ok("R5CW2355X"), "{name}");
    }
    assert_eq!(chosen(&list, "127.0.0.1:6555").as_deref(), Ok("127.0.0.1:6555"));
    assert_eq!(chosen(&list, "nope").unwrap_err(), "device 'nope' not found");
    assert_eq!(chosen(&list, "").unwrap_err(), "device '' not found");
    assert_eq!(chosen(&list, "model:Pixel_6").unwrap_err(), "more than one device");
}

#[test]
fn who_is_not_named_must_be_the_only_one() {
    let sentence = |list: &DeviceList, target| list.choose(&target, Condition::Connected).unwrap_err();
    let (none, both) = (DeviceList::default(), two());
    assert_eq!(sentence(&none, Target::Any), "no devices/emulators found");
    assert_eq!(sentence(&none, Target::Of(Scope::Usb)), "no devices found");
    assert_eq!(sentence(&none, Target::Of(Scope::Tcp)), "no emulators found");
    assert_eq!(sentence(&none, Target::Id(99)), "no device with transport id '99'");
    assert_eq!(sentence(&both, Target::Any), "more than one device/emulator");
    assert_eq!(both.choose(&Target::Of(Scope::Usb), Condition::Connected).unwrap().id, 1);
    assert_eq!(both.choose(&Target::Of(Scope::Tcp), Condition::Connected).unwrap().id, 2);
}

#[test]
fn what_can_not_be_worked_on_is_shown_with_googles_word_and_refused() {
    for (state, word, sentence) in [
        (PhoneState::Claiming, "connecting", "device still connecting"),
        (PhoneState::Authorising, "unauthorized", "device unauthorized."),
        (PhoneState::Recovering, "offline", "device offline"),
    ] {
        let list = list(&[view("P1", None, "usb:1-1", state)], &[]);
        assert_eq!(list.text(Listing::Short), format!("P1\t{word}\n"));
        assert_eq!(chosen(&list, "P1").unwrap_err().lines().next(), Some(sentence));
        assert!(list.choose(&Target::Any, Condition::AnyState).is_ok());
    }
    let gone = [PhoneState::Absent, PhoneState::NotEnumerated, PhoneState::OtherMode, PhoneState::Detached];
    assert_eq!(list(&gone.map(|state| view("P1", None, "usb:1-1", state)), &[]), DeviceList::default());
}

#[test]
fn a_wait_ends_when_its_phone_is_as_awaited_or_nobody_knows_which_is_meant() {
    let none = DeviceList::default();
    assert_eq!(waited(&none, "host:wait-for-any-device"), None);
    assert_eq!(waited(&none, "host:wait-for-any-disconnect"), Some(Ok(())));
    let offline = list(&[view("P1", None, "usb:1-1", PhoneState::Recovering)], &[]);
    assert_eq!(waited(&offline, "host:wait-for-any-device"), None);
    assert_eq!(waited(&offline, "host:wait-for-any-any"), Some(Ok(())));
    assert_eq!(waited(&offline, "host:wait-for-any-disconnect"), None);
    assert_eq!(waited(&two(), "host-serial:A1:wait-for-any-device"), Some(Ok(())));
    assert_eq!(waited(&two(), "host-serial:A1:wait-for-any-recovery"), None);
    let ambiguous = Some(Err("more than one device/emulator".to_owned()));
    assert_eq!(waited(&two(), "host:wait-for-any-device"), ambiguous);
}

#[test]
fn a_phone_keeps_its_number_until_it_is_connected_anew() {
    let phones = [view("P1", None, "usb:1-1", PhoneState::Ready)];
    let mut numbers = Numbers::default();
    let mut number = |seat: Option<u64>| numbers.list(&phones, |_| seat.map(|seat| (seat, pixel()))).devices()[0].id;
    assert_eq!([None, Some(7), Some(7), None, Some(7), Some(8)].map(&mut number), [1, 1, 1, 1, 1, 2]);
    assert_eq!(numbers.list(&[], |_| None).devices(), []);
    assert_eq!(numbers.list(&phones, |_| Some((8, pixel()))).devices()[0].id, 3, "it was away");
}
