//! Through which door a request came, and whether an order may come through it.
//!
//! A browser on this host sends whatever a foreign page tells it to. Three things keep such pages out: an order is JSON by its
//! content type (a form cannot send that without asking first), its `Origin` is the page's own, and its `Host` is this host
//! and not a name that somebody made point here. Of a page that is served to this host only such a name reads nothing either:
//! a browser would take the foreign page and this one for the same origin.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::api::Refused;

/// Through which door requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The Unix socket: its permissions have decided already.
    Local,
    /// A TCP listener on this address.
    Network(SocketAddr),
}

/// Lets a request in, or says why not: what is served to this host only is not read under a foreign name.
pub(super) async fn greet(State(door): State<Door>, request: Request, next: Next) -> Result<Response, Refused> {
    if let Door::Network(listen) = door
        && listen.ip().is_loopback()
        && let Some(host) = text(request.headers(), &HOST).filter(|host| !names_loopback(host))
    {
        let what = format!("the request was addressed to `{host}`, which is not a name of this host's loopback");
        tracing::warn!(%listen, "a reader was refused: {what}");
        let help = "use http://localhost and the port; a proxy in front must send `Host: localhost`".to_owned();
        return Err(Refused::new(StatusCode::FORBIDDEN, "request.forbidden", what, help));
    }
    Ok(next.run(request).await)
}

/// Lets an order pass, or says why not.
pub(super) async fn admit(State(door): State<Door>, request: Request, next: Next) -> Result<Response, Refused> {
    if let Door::Network(listen) = door {
        check(listen, request.headers()).map_err(|(what, help)| {
            tracing::warn!(%listen, "an order was refused: {what}");
            Refused::new(StatusCode::FORBIDDEN, "request.forbidden", what, help.to_owned())
        })?;
    }
    Ok(next.run(request).await)
}

fn check(listen: SocketAddr, headers: &HeaderMap) -> Result<(), (String, &'static str)> {
    if !listen.ip().is_loopback() {
        let what = format!("orders are not taken over the network, and this page is served at {listen}");
        return Err((what, "use the command line on the rack's host"));
    }
    let host = text(headers, &HOST).unwrap_or_default();
    if !is_this_host(host, listen) {
        let what = format!("the order was addressed to `{host}`, which is not a name of this host's loopback");
        return Err((what, "use http://localhost and the port"));
    }
    if let Some(origin) = text(headers, &ORIGIN)
        && origin.strip_prefix("http://") != Some(host)
    {
        return Err((format!("the order comes from a page of `{origin}`"), "use farmhand's own page"));
    }
    let content = text(headers, &CONTENT_TYPE).unwrap_or_default();
    if content.split(';').next().is_none_or(|kind| !kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err((format!("the order's content type is `{content}`"), "send application/json"));
    }
    Ok(())
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("(unreadable)"))
}

/// `localhost` or an address of the loopback, with the listener's port where one is named.
fn is_this_host(host: &str, listen: SocketAddr) -> bool {
    names_loopback(host) && name_and_port(host).1.is_none_or(|port| port == listen.port().to_string())
}

/// Whatever the port: a tunnel may have another one.
fn names_loopback(host: &str) -> bool {
    let name = name_and_port(host).0.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn name_and_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "127.0.0.1:8420";

    fn order(listen: &str, headers: &[(&HeaderName, &str)]) -> Result<(), String> {
        let headers = headers.iter().map(|(name, value)| ((*name).clone(), value.parse().unwrap())).collect();
        check(listen.parse().unwrap(), &headers).map_err(|(what, _)| what)
    }

    #[test]
    fn the_page_on_this_host_may_order() {
        for host in ["localhost:8420", "127.0.0.1:8420", "[::1]:8420", "LocalHost", "[::1]"] {
            let origin = format!("http://{host}");
            order(LOOPBACK, &[(&HOST, host), (&ORIGIN, &origin), (&CONTENT_TYPE, "application/json; charset=utf-8")])
                .unwrap();
        }
        order(LOOPBACK, &[(&HOST, "localhost:8420"), (&CONTENT_TYPE, "application/json")]).unwrap();
    }

    #[test]
    fn a_name_that_was_made_to_point_here_may_not() {
        for host in ["evil.example:8420", "localhost.evil.example", "localhost:80", "", "127.0.0.1.evil.example:8420"] {
            let refused = order(LOOPBACK, &[(&HOST, host), (&CONTENT_TYPE, "application/json")]).unwrap_err();
            assert!(refused.contains("addressed to"), "{host}: {refused}");
        }
    }

    #[test]
    fn a_foreign_page_may_not() {
        for origin in ["http://evil.example", "null", "https://localhost:8420", "http://localhost:9000"] {
            let headers = [(&HOST, "localhost:8420"), (&ORIGIN, origin), (&CONTENT_TYPE, "application/json")];
            assert!(order(LOOPBACK, &headers).unwrap_err().contains("page of"));
        }
    }

    #[test]
    fn a_form_may_not() {
        let headers = [(&HOST, "localhost:8420"), (&CONTENT_TYPE, "text/plain")];
        assert!(order(LOOPBACK, &headers).unwrap_err().contains("content type"));
        assert!(order(LOOPBACK, &[(&HOST, "localhost:8420")]).unwrap_err().contains("content type"));
    }

    #[test]
    fn nobody_may_through_a_listener_that_others_reach() {
        let headers = [(&HOST, "localhost:8420"), (&CONTENT_TYPE, "application/json")];
        assert!(order("0.0.0.0:8420", &headers).unwrap_err().contains("not taken over the network"));
    }
}
