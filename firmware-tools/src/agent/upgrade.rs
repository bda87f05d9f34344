//! What an agent does about `UpgradeDeviceAppNotice`: it fetches each APK, has it installed on its phone, and tells what it is now, or
//! why not.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use farmhand::central::proto::post_device_info_notice_message::DeviceAppInfoMessage;
use farmhand::central::proto::{
    DeviceAppUpgradeMessage, EnumErrorCode, EnumMsgType as Type, PostDeviceInfoNoticeMessage, TaskResultNoticeMessage,
    TransportMessage, UpgradeDeviceAppNoticeMessage,
};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Agent, any};
use crate::control;
use crate::order::{Order, PhoneAct};
use crate::phone::VirtualPhone;

/// The longest APK that is fetched.
const APK_BYTES_MAX: usize = 512 << 20;
/// From the request to the last byte of an APK on the same machine.
const FETCH_MAX: Duration = Duration::from_secs(30);

/// The phone on which an agent lives, as far as it can have apps installed there.
#[derive(Clone, Copy)]
pub enum Home<'a> {
    /// In this process.
    Here(&'a VirtualPhone),
    /// In the rack that runs in a directory.
    Rack {
        /// The directory.
        dir: &'a Path,
        /// The phone's name.
        phone: &'a str,
    },
}

/// An app as it is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// `PackageName`
    pub package: String,
    /// `VerNumber`
    pub version_code: i32,
    /// `Version`
    pub version_name: String,
}

/// Carries out what a notice asks for; gives what is installed then. It is for the caller to tell ([`Agent::reports`],
/// [`Agent::could_not_upgrade`]): on a real phone the connection ends with the process that is replaced.
///
/// # Errors
/// It is no such notice, an APK can't be fetched, or the phone refuses it, in Android's words.
pub async fn carry_out(notice: &TransportMessage, home: Home<'_>) -> io::Result<Vec<App>> {
    let content = notice.content.as_ref().map(|content| content.value.as_slice()).unwrap_or_default();
    let notice = UpgradeDeviceAppNoticeMessage::decode(content).map_err(io::Error::other)?;
    let mut apps = Vec::new();
    for wanted in notice.app_infos {
        let apk = fetch(&wanted.package_url).await?;
        home.install(apk, &wanted).await?;
        let DeviceAppUpgradeMessage { package_name, ver_number, version, .. } = wanted;
        apps.push(App { package: package_name, version_code: ver_number, version_name: version });
    }
    Ok(apps)
}

impl Home<'_> {
    /// Has an APK installed, and looks whether it was the one that was wanted.
    async fn install(self, apk: Bytes, wanted: &DeviceAppUpgradeMessage) -> io::Result<()> {
        let installed = match self {
            Home::Here(phone) => {
                phone.install(apk).await?;
                phone.state().packages.get(&wanted.package_name).map(|(code, _)| *code)
            }
            Home::Rack { dir, phone } => {
                let file = tempfile::NamedTempFile::new()?;
                tokio::fs::write(file.path(), &apk).await?;
                let act = PhoneAct::Install { apk: PathBuf::from(file.path()) };
                let shown = control::give(dir, &Order::Phone { name: phone.to_owned(), act }).await?;
                shown["packages"][&wanted.package_name][0].as_u64()
            }
        };
        if installed == u64::try_from(wanted.ver_number).ok() {
            return Ok(());
        }
        let DeviceAppUpgradeMessage { package_name, ver_number, .. } = wanted;
        Err(io::Error::other(format!("{package_name} {ver_number} was wanted, and {installed:?} is installed")))
    }
}

/// The body of an answer to GET.
async fn fetch(url: &str) -> io::Result<Bytes> {
    let uri: hyper::Uri = url.parse().map_err(io::Error::other)?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"));
    let authority = authority.ok_or_else(|| io::Error::other(format!("`{url}` is no address of HTTP")))?;
    let stream = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
    let request = Request::get(uri.path()).header(HOST, authority.as_str()).body(Empty::<Bytes>::new());
    let request = request.map_err(io::Error::other)?;
    let answer = async {
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        if !response.status().is_success() {
            return Err(io::Error::other(format!("{url}: {}", response.status())));
        }
        let body = Limited::new(response.into_body(), APK_BYTES_MAX).collect().await;
        Ok(body.map_err(io::Error::other)?.to_bytes())
    };
    timeout(FETCH_MAX, answer).await?
}

impl Agent {
    /// Tells which apps are on the phone; the Id.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn reports(&mut self, imei: &str, apps: &[App]) -> io::Result<i64> {
        let app_infos = apps.iter().map(|app| DeviceAppInfoMessage {
            package_name: app.package.clone(),
            ver_number: app.version_code,
            version: app.version_name.clone(),
            ..Default::default()
        });
        let notice = PostDeviceInfoNoticeMessage {
            app_infos: app_infos.collect(),
            net_type: "none".to_owned(),
            imei: imei.to_owned(),
            ..Default::default()
        };
        self.send(Type::PostDeviceInfoNotice as i32, Some(any("PostDeviceInfoNoticeMessage", &notice)), 0).await
    }

    /// Tells that the upgrade that a notice asked for has failed; the Id.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn could_not_upgrade(&mut self, notice: i64, why: &str) -> io::Result<i64> {
        let result = TaskResultNoticeMessage {
            success: false,
            code: EnumErrorCode::InternalError as i32,
            err_msg: why.to_owned(),
            task_type: Type::UpgradeDeviceAppNotice as i32,
            ..Default::default()
        };
        self.send(Type::TaskResultNotice as i32, Some(any("TaskResultNoticeMessage", &result)), notice).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Files;
    use crate::phone::PhoneSpec;
    use crate::rack::test_apks;

    async fn asks(files: &Files, apk: &str, phone: &VirtualPhone) -> io::Result<Vec<App>> {
        let app = DeviceAppUpgradeMessage {
            ver_number: 2,
            version: "2.0".to_owned(),
            package_name: "org.example.agent".to_owned(),
            package_url: files.url(apk),
        };
        let notice = UpgradeDeviceAppNoticeMessage { app_infos: vec![app], ..Default::default() };
        let content = Some(any("UpgradeDeviceAppNoticeMessage", &notice));
        carry_out(&TransportMessage { content, ..Default::default() }, Home::Here(phone)).await
    }

    #[tokio::test]
    async fn a_phone_has_what_its_agent_was_told_to_install_and_nothing_else() {
        let files = Files::start(([127, 0, 0, 1], 0).into(), test_apks()).await.unwrap();
        let spec = PhoneSpec { packages: vec![test_apks().join("agent-1.apk")], ..PhoneSpec::new("P1", "VIRTUALP1") };
        let phone = VirtualPhone::start(spec).unwrap();
        let refused = asks(&files, "agent-2-other-key.apk", &phone).await.unwrap_err();
        assert!(refused.to_string().contains("INSTALL_FAILED_UPDATE_INCOMPATIBLE"), "{refused}");
        let missing = asks(&files, "nothing.apk", &phone).await.unwrap_err();
        assert!(missing.to_string().contains("404"), "{missing}");
        let wrong = asks(&files, "agent-3.apk", &phone).await.unwrap_err();
        assert!(wrong.to_string().contains("is installed"), "{wrong}");
    }

    #[tokio::test]
    async fn what_is_installed_is_what_was_wanted() {
        let files = Files::start(([127, 0, 0, 1], 0).into(), test_apks()).await.unwrap();
        let phone = VirtualPhone::start(PhoneSpec::new("P1", "VIRTUALP1")).unwrap();
        let apps = asks(&files, "agent-2.apk", &phone).await.unwrap();
        assert_eq!((apps[0].package.as_str(), apps[0].version_code), ("org.example.agent", 2));
        assert_eq!(phone.state().packages["org.example.agent"].0, 2);
    }
}
