use std::time::Duration;

use axum::body::Body;
use axum::http::{Request as Http, StatusCode, header};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tower::ServiceExt;

use super::change::Change;
use super::*;
use crate::rack::access::{Role, TokenDone, TokenOrder, TokenWish};
use crate::rack::ids::{HubName, HubPort, PhoneId, RolloutId, SlotName};
use crate::rack::snapshot::{HostHealth, PhoneState, PhoneView, PortMode};
use crate::store::StateDir;
use crate::store::promise::{AuditRecord, Promise};

fn phone(id: &str, slot: Option<&str>, state: PhoneState) -> PhoneView {
    PhoneView { slot: slot.map(SlotName::new), state, ..PhoneView::unknown(PhoneId::new(id)) }
}

fn two_phones() -> Snapshot {
    let phones = vec![phone("S1", Some("A1"), PhoneState::Ready), phone("S2", None, PhoneState::Online)];
    Snapshot { revision: 7, phones, ..Snapshot::default() }
}

/// The desk's back: what the model holds of it.
struct Model {
    snapshots: watch::Sender<Arc<Snapshot>>,
    orders: mpsc::Receiver<Order>,
}

fn desk(rack: Snapshot, queue: usize) -> (Desk, Model) {
    let (snapshots, watched) = watch::channel(Arc::new(rack));
    let (requests, orders) = mpsc::channel(queue);
    let desk = Desk {
        snapshots: watched,
        requests,
        policy: watch::channel(Arc::default()).1,
        store: store(),
        access: Access::closed(),
    };
    (desk, Model { snapshots, orders })
}

/// A store whose files are gone when it is.
pub(super) fn store() -> Store {
    let dir = tempfile::tempdir().unwrap();
    Store::open(&StateDir::lock(dir.path()).unwrap()).unwrap()
}

async fn ask(desk: &Desk, request: Http<Body>) -> (StatusCode, serde_json::Value) {
    let router = router(desk.clone(), Door::Local, CancellationToken::new());
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into()))
}

fn get(path: &str) -> Http<Body> {
    Http::get(path).body(Body::empty()).unwrap()
}

fn post(body: &str) -> Http<Body> {
    let json = (header::CONTENT_TYPE, "application/json");
    Http::post("/api/requests").header(json.0, json.1).body(Body::from(body.to_owned())).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_as_it_was_seen_is_told_as_soon_as_it_is_another() {
    let rack_with = |why: &str, revision| {
        let rollout = crate::rack::snapshot::RolloutView {
            id: crate::rack::ids::RolloutId::new("R1"),
            state: crate::rack::snapshot::RolloutState::Running,
            why: why.to_owned(),
            package: crate::rack::ids::PackageName::new("org.example.agent"),
            version_code: crate::rack::ids::VersionCode(2),
            version_name: "2.0".to_owned(),
            created: crate::clock::UnixMillis(0),
            waves: Vec::new(),
        };
        Snapshot { revision, rollouts: vec![rollout], ..Snapshot::default() }
    };
    let (desk, model) = desk(rack_with("wave 1", 1), 1);
    let look = async |path: &str, seen: Option<&header::HeaderValue>| {
        let mut request = get(path);
        request.headers_mut().extend(seen.map(|seen| (header::IF_NONE_MATCH, seen.clone())));
        router(desk.clone(), Door::Local, CancellationToken::new()).oneshot(request).await.unwrap()
    };
    let first = look("/api/rollouts/R1?wait=20", None).await;
    assert_eq!(first.status(), StatusCode::OK, "nothing was seen yet");
    let seen = first.headers()[header::ETAG].clone();
    assert_eq!(look("/api/rollouts/R1?wait=20", Some(&seen)).await.status(), StatusCode::NOT_MODIFIED, "none in 20 s");
    assert_eq!(look("/api/rollouts/R1", Some(&seen)).await.status(), StatusCode::NOT_MODIFIED, "nobody waits");
    let begun = tokio::time::Instant::now();
    let (news, ()) = tokio::join!(look("/api/rollouts/R1?wait=20", Some(&seen)), async {
        // What is new elsewhere in the rack is no news of the rollout.
        model.snapshots.send_replace(Arc::new(rack_with("wave 1", 2)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        model.snapshots.send_replace(Arc::new(rack_with("wave 2", 3)));
    });
    assert_eq!((news.status(), begun.elapsed()), (StatusCode::OK, Duration::from_secs(1)));
    assert_ne!(news.headers()[header::ETAG], seen);
    assert_eq!(look("/api/rollouts/R1?wait=soon", None).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_phone_is_found_by_slot_and_by_id() {
    let (desk, _model) = desk(two_phones(), 1);
    assert_eq!(ask(&desk, get("/api/phones/A1")).await.1["id"], "S1");
    assert_eq!(ask(&desk, get("/api/phones/S2")).await.1["state"], "online");
    assert_eq!(ask(&desk, get("/api/snapshot")).await.1["revision"], 7);
}

#[tokio::test(start_paused = true)]
async fn a_trace_is_held_back_until_something_happens() {
    use crate::phone::trace::{Happening, Trace};
    let rack_with = |probes| {
        let mut trace = Trace::default();
        trace.push(crate::clock::Moment::START, Happening::Opening);
        (0..probes).for_each(|_| trace.push(crate::clock::Moment::START, Happening::AuthorisationWanted));
        let by_phone = [(PhoneId::new("S1"), Arc::new(trace))].into();
        Snapshot { traces: crate::rack::Traces { epoch: crate::clock::UnixMillis(5), by_phone }, ..two_phones() }
    };
    let (desk, model) = desk(rack_with(0), 1);
    assert_eq!(ask(&desk, get("/api/phones/A1/trace")).await.1["events"][0]["event"], "opening");
    assert_eq!(ask(&desk, get("/api/phones/A1/trace?from=1&wait=20")).await.1["next"], 1, "nothing happened in 20 s");
    let (news, ()) = tokio::join!(ask(&desk, get("/api/phones/A1/trace?from=1&wait=20")), async {
        model.snapshots.send_replace(Arc::new(rack_with(0)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        model.snapshots.send_replace(Arc::new(rack_with(1)));
    });
    assert_eq!((&news.1["events"][0]["number"], &news.1["next"]), (&1.into(), &2.into()));
    assert_eq!(ask(&desk, get("/api/phones/A9/trace")).await.1["code"], "phone.unknown");
    assert_eq!(ask(&desk, get("/api/phones/A1/trace?from=x")).await.1["code"], "request.malformed");
}

#[tokio::test]
async fn the_audit_is_told_by_person_phone_and_time_and_only_on_this_host() {
    let (desk, _model) = desk(two_phones(), 1);
    let line = |at, who: &str, target: &str, what: &str| {
        let (at, who) = (crate::clock::UnixMillis(at), who.to_owned());
        Promise::Audit(AuditRecord { at, who, what: what.to_owned(), target: target.to_owned() })
    };
    let lines =
        [(1, "mara", "S1", "held"), (2, "jon", "S2", "reset"), (3, "mara", "A1", "named"), (4, "mara", "R1", "began")];
    let batch = lines.into_iter().map(|(at, who, target, what)| line(at, who, target, what)).collect();
    desk.store.commit(batch).await.unwrap();
    let told = async |query: &str| -> Vec<String> {
        let (status, lines) = ask(&desk, get(&format!("/api/audit{query}"))).await;
        assert_eq!(status, StatusCode::OK, "{lines}");
        lines.as_array().unwrap().iter().map(|line| line["what"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(told("").await, ["began", "named", "reset", "held"]);
    assert_eq!(told("?who=mara&limit=2").await, ["began", "named"]);
    assert_eq!(told("?target=A1").await, ["named", "held"], "a phone by its slot and by its id");
    assert_eq!(told("?target=R1").await, ["began"]);
    assert_eq!(told("?since_unix_ms=2&who=jon").await, ["reset"]);
    assert_eq!(ask(&desk, get("/api/audit?whom=mara")).await.1["code"], "request.malformed");

    let door = Door::Network("127.0.0.1:8420".parse().unwrap());
    let response = router(desk.clone(), door, CancellationToken::new()).oneshot(get("/api/audit")).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_is_not_there_is_named_with_what_is() {
    let (desk, _model) = desk(two_phones(), 1);
    let (status, refusal) = ask(&desk, get("/api/phones/a1")).await;
    assert_eq!((status, &refusal["code"]), (StatusCode::NOT_FOUND, &"phone.unknown".into()));
    assert_eq!(refusal["help"], "did you mean `A1`?");
    assert_eq!(ask(&desk, get("/api/hubs/H1")).await.1["help"], "there is no hub yet");
    assert_eq!(ask(&desk, get("/api/rollouts/R1")).await.1["code"], "rollout.unknown");
    assert_eq!(ask(&desk, get("/somewhere")).await.1["code"], "path.unknown");
}

#[tokio::test]
async fn an_order_reaches_the_model_and_its_answer_comes_back() {
    let (desk, mut model) = desk(two_phones(), 1);
    let answers = tokio::spawn(async move {
        let (request, answer) = model.orders.recv().await.unwrap();
        answer.send(Ok(Done { what: "Port 3 of H1 is off.".to_owned(), ..Done::default() })).unwrap();
        request
    });
    let (status, done) = ask(&desk, post(r#"{"do":"set_port","hub":"H1","port":3,"mode":"off"}"#)).await;
    assert_eq!((status, &done["what"]), (StatusCode::OK, &"Port 3 of H1 is off.".into()));
    let order = Request::SetPort { hub: HubName::new("H1"), port: HubPort(3), mode: PortMode::Off };
    assert_eq!(answers.await.unwrap(), order);
}

#[tokio::test]
async fn a_refusal_has_a_status_by_its_code() {
    let (desk, mut model) = desk(two_phones(), 1);
    tokio::spawn(async move {
        while let Some((request, answer)) = model.orders.recv().await {
            let known = request == Request::RolloutPause { rollout: RolloutId::new("R1") };
            let code = if known { "rollout.over" } else { "rollout.unknown" };
            let _ = answer.send(Err(Refusal { code: code.to_owned(), what: String::new(), help: None }));
        }
    });
    let pause = |id| post(&format!(r#"{{"do":"rollout_pause","rollout":"{id}"}}"#));
    assert_eq!(ask(&desk, pause("R1")).await.0, StatusCode::CONFLICT);
    assert_eq!(ask(&desk, pause("R2")).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_no_order_is_refused_with_an_example() {
    let (desk, _model) = desk(two_phones(), 1);
    for body in ["", "{}", "[1]", r#"{"do":"fly"}"#, r#"{"do":"set_port","hub":"H1","port":900,"mode":"off"}"#] {
        let (status, refusal) = ask(&desk, post(body)).await;
        assert!(status.is_client_error(), "{body}: {status}");
        assert_eq!(refusal["code"], "request.malformed");
        assert!(refusal["help"].as_str().unwrap().contains("rollout_approve"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_does_not_answer_is_not_waited_for_for_ever() {
    let (desk, model) = desk(two_phones(), 1);
    let order = || post(r#"{"do":"rollout_pause","rollout":"R1"}"#);
    let (status, refusal) = ask(&desk, order()).await;
    assert_eq!((status, &refusal["code"]), (StatusCode::GATEWAY_TIMEOUT, &"daemon.slow".into()));
    let (status, refusal) = ask(&desk, order()).await;
    assert_eq!(
        (status, &refusal["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"daemon.busy".into()),
        "the queue is full"
    );
    drop(model);
    let (status, refusal) = ask(&desk, order()).await;
    assert_eq!((status, &refusal["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"daemon.stopping".into()));
    assert_eq!(ask(&desk, get("/healthz")).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_page_runs_nothing_but_its_own_files() {
    let (desk, _model) = desk(two_phones(), 1);
    for path in ["/", "/page.css", "/page.js", "/icon.svg"] {
        let router = router(desk.clone(), Door::Local, CancellationToken::new());
        let response = router.oneshot(get(path)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).replace("http://www.w3.org/2000/svg", "");
        assert!(!text.is_empty() && !text.contains("://"), "{path} fetches from elsewhere");
    }
}

/// The next event that a stream tells: its kind and content.
async fn next_event(body: &mut Body) -> Option<(String, serde_json::Value)> {
    loop {
        let frame = body.frame().await?.unwrap();
        let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        if let (Some(kind), Some(data)) = (field("event: "), field("data: ")) {
            return Some((kind, serde_json::from_str(&data).unwrap()));
        }
    }
}

async fn stream(desk: &Desk, cancel: &CancellationToken) -> Body {
    let router = router(desk.clone(), Door::Local, cancel.clone());
    router.oneshot(get("/api/events")).await.unwrap().into_body()
}

#[tokio::test(start_paused = true)]
async fn a_viewer_sees_the_rack_then_what_changes_in_it() {
    let (desk, model) = desk(two_phones(), 1);
    let mut body = stream(&desk, &CancellationToken::new()).await;
    let (kind, whole) = next_event(&mut body).await.unwrap();
    assert_eq!((kind.as_str(), &whole["phones"][0]["state"]), ("snapshot", &"ready".into()));

    let mut rack = two_phones();
    rack.revision = 8;
    rack.phones[0].state = PhoneState::Absent;
    model.snapshots.send(Arc::new(rack)).unwrap();
    let (kind, change) = next_event(&mut body).await.unwrap();
    assert_eq!((kind.as_str(), &change["revision"]), ("change", &8.into()));
    assert_eq!(change["phones"].as_array().unwrap().len(), 1, "only the phone that changed");
    assert_eq!(change.get("hubs"), None);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_changes_is_told_at_most_ten_times_a_second() {
    let (desk, model) = desk(two_phones(), 1);
    let mut body = stream(&desk, &CancellationToken::new()).await;
    next_event(&mut body).await.unwrap();
    let begin = tokio::time::Instant::now();
    tokio::spawn(async move {
        for revision in 8..=1007 {
            model.snapshots.send(Arc::new(Snapshot { revision, ..two_phones() })).unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The viewer shall have seen the last one before the model ends.
        tokio::time::sleep(Duration::from_secs(1)).await;
    });
    let mut told = 0;
    let mut last = 0;
    while let Some((_, change)) = next_event(&mut body).await {
        told += 1;
        last = change["revision"].as_u64().unwrap();
    }
    assert_eq!(last, 1007, "the newest is never lost");
    assert!(told <= 12, "{told} events in {:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_kept_alive() {
    let (desk, _model) = desk(two_phones(), 1);
    let mut body = stream(&desk, &CancellationToken::new()).await;
    next_event(&mut body).await.unwrap();
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(frame.starts_with(b":"), "{frame:?}");
}

#[tokio::test]
async fn streams_are_counted() {
    let (desk, _model) = desk(two_phones(), 1);
    let router = router(desk, Door::Local, CancellationToken::new());
    let mut open = Vec::new();
    for _ in 0..STREAMS_MAX {
        open.push(router.clone().oneshot(get("/api/events")).await.unwrap());
    }
    let refused = router.clone().oneshot(get("/api/events")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    open.pop();
    assert_eq!(router.oneshot(get("/api/events")).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn an_open_stream_does_not_hold_up_the_end() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (desk, _model) = desk(two_phones(), 1);
    let listener = bind_tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let served = tokio::spawn(serve_tcp(listener, desk, cancel.clone()));
    let mut browser = tokio::net::TcpStream::connect(address).await.unwrap();
    browser.write_all(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("event: snapshot") {
        assert_ne!(browser.read_buf(&mut heard).await.unwrap(), 0, "{}", String::from_utf8_lossy(&heard));
    }
    cancel.cancel();
    let begin = std::time::Instant::now();
    served.await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_foreign_name_gets_no_order_through_the_network_door() {
    let (desk, _model) = desk(two_phones(), 1);
    let router = router(desk, Door::Network("127.0.0.1:8420".parse().unwrap()), CancellationToken::new());
    let mut order = post(r#"{"do":"rollout_pause","rollout":"R1"}"#);
    order.headers_mut().insert(header::HOST, "evil.example:8420".parse().unwrap());
    let response = router.oneshot(order).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_page_for_this_host_only_is_not_read_under_a_foreign_name() {
    let (desk, _model) = desk(two_phones(), 1);
    let read = async |listen: &str, path: &str, host: &str| {
        let router = router(desk.clone(), Door::Network(listen.parse().unwrap()), CancellationToken::new());
        let mut request = get(path);
        request.headers_mut().insert(header::HOST, host.parse().unwrap());
        router.oneshot(request).await.unwrap().status()
    };
    for path in ["/", "/api/snapshot", "/api/events", "/metrics"] {
        assert_eq!(read("127.0.0.1:8420", path, "evil.example:8420").await, StatusCode::FORBIDDEN, "{path}");
        for host in ["127.0.0.1:8420", "localhost:9000", "[::1]"] {
            assert_eq!(read("127.0.0.1:8420", path, host).await, StatusCode::OK, "{path} by {host}");
        }
        assert_eq!(read("192.0.2.7:8420", path, "rack.example:8420").await, StatusCode::OK, "{path} on a network");
    }
}

#[tokio::test]
async fn the_socket_of_a_dead_daemon_is_replaced_and_that_of_a_living_one_is_not() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("farmhand.sock");
    drop(bind_unix(&path).await.unwrap());
    let living = bind_unix(&path).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(matches!(bind_unix(&path).await, Err(BindError::Occupied(_))));
    drop(living);
}

fn some_phone() -> impl Strategy<Value = PhoneView> {
    let state = proptest::sample::select(PhoneState::ALL.to_vec());
    ("[a-e]", state).prop_map(|(id, state)| phone(&id, None, state))
}

fn some_rack() -> impl Strategy<Value = Snapshot> {
    (proptest::collection::vec(some_phone(), 0..5), any::<u64>(), any::<u64>()).prop_map(
        |(mut phones, revision, used)| {
            let mut seen = std::collections::BTreeSet::new();
            phones.retain(|phone| seen.insert(phone.id.clone()));
            let host = Some(HostHealth { memory_used_bytes: used, ..HostHealth::default() });
            Snapshot { revision, phones, host, ..Snapshot::default() }
        },
    )
}

proptest! {
    #[test]
    fn a_change_makes_the_newer_rack_from_the_older(mut old in some_rack(), new in some_rack()) {
        Change::between(&old, &new).apply(&mut old);
        prop_assert_eq!(old, new);
    }
}

#[tokio::test]
async fn tokens_are_asked_about_on_this_hosts_socket_only() {
    let (mut desk, _model) = desk(two_phones(), 1);
    let (orders, mut asked) = mpsc::channel(4);
    desk.access.orders = orders;
    assert_eq!(ask(&desk, get("/api/tokens")).await.1, serde_json::json!([]));
    assert_eq!(ask(&desk, get("/api/adb-server")).await.1["listen"], serde_json::Value::Null);
    let add = |body: &str| {
        Http::post("/api/tokens")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap()
    };
    let wish = r#"{"owner": "mara", "role": "use", "lasts_s": 60}"#;
    let keeper = async {
        let asked: TokenAsked = asked.recv().await.unwrap();
        let wish = TokenWish { owner: "mara".to_owned(), role: Role::Use, lasts_s: Some(60) };
        assert_eq!(asked.order, TokenOrder::Add(wish));
        let done = TokenDone { what: "made".to_owned(), token: Some("farmhand1-x".to_owned()), records: Vec::new() };
        asked.answer.send(Ok(done)).unwrap();
    };
    let ((status, done), ()) = tokio::join!(ask(&desk, add(wish)), keeper);
    assert_eq!((status, &done["token"]), (StatusCode::OK, &"farmhand1-x".into()));
    for wrong in
        [r#"{"owner": "mara", "role": "root"}"#, r#"{"owner": "mara"}"#, "", r#"{"owner": "m", "role": "use", "x": 1}"#]
    {
        assert_eq!(ask(&desk, add(wrong)).await.1["code"], "request.malformed", "{wrong}");
    }
    // A page, and whoever else reaches this host's ports, makes none and sees none.
    let revoke = Http::delete("/api/tokens/00c0ffee").body(Body::empty()).unwrap();
    for request in [get("/api/tokens"), add(wish), revoke] {
        let door = Door::Network("127.0.0.1:8420".parse().unwrap());
        let response = router(desk.clone(), door, CancellationToken::new()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    }
}
