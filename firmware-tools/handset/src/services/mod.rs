//! What a host can open a stream to.

mod shell;
mod sync;

use crate::device::{Device, RebootTarget};
use crate::stdin::Protocol;
use crate::stream::{Closed, Stream};

/// A service, as named in OPEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// `shell:` and `exec:`: a command line, or a shell that reads lines.
    Shell { protocol: Protocol, line: String },
    /// `abb:` and `abb_exec:`: a system service and its arguments.
    Abb { protocol: Protocol, arguments: Vec<String> },
    /// `sync:`: files.
    Sync,
    /// `reboot:`.
    Reboot { target: String },
    /// What a phone that was sold to a user answers with a sentence only.
    Sentence(&'static str),
    /// `reverse:`, which answers by OKAY or FAIL.
    Reverse,
}

impl Service {
    /// `None` if this phone has no such service.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let end = payload.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let text = std::str::from_utf8(payload.get(..end)?).ok()?;
        let (name, argument) = text.split_once(':')?;
        let (name, options) = name.split_once(',').unwrap_or((name, ""));
        match name {
            // `shell,v2,TERM=xterm,raw:line` has its options before the colon.
            "shell" => {
                let v2 = options.split(',').any(|option| option == "v2");
                let protocol = if v2 { Protocol::Packets } else { Protocol::Raw };
                Some(Self::Shell { protocol, line: argument.to_owned() })
            }
            "exec" => Some(Self::Shell { protocol: Protocol::Raw, line: argument.to_owned() }),
            "abb" => Self::system_service(Protocol::Packets, argument),
            "abb_exec" => Self::system_service(Protocol::Raw, argument),
            "sync" => Some(Self::Sync),
            "reboot" => Some(Self::Reboot { target: argument.to_owned() }),
            "root" => Some(Self::Sentence("adbd cannot run as root in production builds\n")),
            "unroot" => Some(Self::Sentence("adbd not running as root\n")),
            "remount" => Some(Self::Sentence("remount failed: Operation not permitted\n")),
            "reverse" => Some(Self::Reverse),
            _ => None,
        }
    }

    fn system_service(protocol: Protocol, argument: &str) -> Option<Self> {
        let arguments: Vec<_> = argument.split('\0').map(str::to_owned).collect();
        (!argument.is_empty()).then_some(Self::Abb { protocol, arguments })
    }
}

/// Runs a service to its end, or until the host closes its stream.
pub(crate) async fn run<D: Device>(service: Service, mut stream: Stream, device: &D) {
    let closed = stream.closed();
    let served = async {
        match service {
            Service::Shell { protocol, line } if line.is_empty() => shell::lines(device, &mut stream, protocol).await,
            Service::Shell { protocol, line } => shell::line(device, &mut stream, protocol, &line).await,
            Service::Abb { protocol, arguments } => {
                shell::system_service(device, &mut stream, protocol, &arguments).await
            }
            Service::Sync => sync::serve(device.files(), &mut stream).await,
            Service::Reboot { target } => {
                device.reboot(if target.is_empty() { RebootTarget::Android } else { RebootTarget::Other(&target) });
                Ok(())
            }
            Service::Sentence(sentence) => stream.write(sentence).await,
            Service::Reverse => stream.write(failure("reverse connections are not supported")).await,
        }
    };
    tokio::select! {
        result = served => {
            if let Err(Closed) = result {
                tracing::debug!("a service lost its host");
            }
        }
        () = closed => tracing::debug!("the host closed the stream of a service at work"),
    }
}

/// `FAIL`, the length of the reason in four hex digits, the reason.
fn failure(reason: &str) -> String {
    format!("FAIL{:04x}{reason}", reason.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(protocol: Protocol, line: &str) -> Option<Service> {
        Some(Service::Shell { protocol, line: line.to_owned() })
    }

    #[test]
    fn services_are_told_by_name() {
        assert_eq!(Service::parse(b"shell:getprop\0"), shell(Protocol::Raw, "getprop"));
        assert_eq!(Service::parse(b"shell,v2,TERM=xterm,raw:a:b"), shell(Protocol::Packets, "a:b"));
        assert_eq!(Service::parse(b"shell,v2:\0\0"), shell(Protocol::Packets, ""));
        assert_eq!(Service::parse(b"exec:cmd package"), shell(Protocol::Raw, "cmd package"));
        assert_eq!(
            Service::parse(b"abb_exec:package\0install\0-S\x0012\0"),
            Some(Service::Abb {
                protocol: Protocol::Raw,
                arguments: ["package", "install", "-S", "12"].map(str::to_owned).to_vec()
            })
        );
        for none in [&b""[..], b"\0", b"shell", b"tcp:80", b"abb:", b"jdwp:1", b"\xff:"] {
            assert_eq!(Service::parse(none), None, "{none:?}");
        }
    }
}
