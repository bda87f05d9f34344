//! Tokens on their way to the store, and what guessers say on its way to the audit: one task, so that it is promised and told in one
//! order.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::adb::server::RefusedToken;
use crate::adb::server::tokens::{Sha256Digest, Token};
use crate::clock::UnixMillis;
use crate::rack::access::{TOKENS_MAX, TokenBook, TokenDone, TokenOrder, TokenRecord, TokenWish};
use crate::rack::request::Refusal;
use crate::store::Store;
use crate::store::promise::{AuditRecord, Promise};
use crate::web::TokenAsked;

/// Orders that wait for the store; one more is refused.
const WAITING_MAX: usize = 16;
/// Wrong tokens that wait for the audit; with more, who guesses waits.
const REFUSED_MAX: usize = 16;

/// The ends that others have of the task.
pub(super) struct Tokens {
    pub(super) book: watch::Receiver<Arc<TokenBook>>,
    pub(super) orders: mpsc::Sender<TokenAsked>,
    pub(super) refused: mpsc::Sender<RefusedToken>,
}

/// Starts the task that keeps tokens in `store`. Each of them names the certificate by which their owners know this server.
pub(super) fn spawn(
    store: Store,
    known: Vec<TokenRecord>,
    certificate: Sha256Digest,
    cancel: CancellationToken,
) -> Tokens {
    let (publish, book) = watch::channel(Arc::new(TokenBook::new(known)));
    let (orders, mut asked) = mpsc::channel::<TokenAsked>(WAITING_MAX);
    let (refused, mut refusals) = mpsc::channel::<RefusedToken>(REFUSED_MAX);
    let keeper = Keeper { store, certificate, publish };
    tokio::spawn(cancel.run_until_cancelled_owned(async move {
        loop {
            tokio::select! {
                Some(TokenAsked { order, who, answer }) = asked.recv() => {
                    let done = keeper.carry_out(order, &who).await;
                    // Whoever asked may have hung up.
                    let _ = answer.send(done);
                }
                Some(refused) = refusals.recv() => keeper.note(&refused).await,
                else => return,
            }
        }
    }));
    Tokens { book, orders, refused }
}

struct Keeper {
    store: Store,
    certificate: Sha256Digest,
    publish: watch::Sender<Arc<TokenBook>>,
}

impl Keeper {
    async fn carry_out(&self, order: TokenOrder, who: &str) -> Result<TokenDone, Refusal> {
        match order {
            TokenOrder::Add(wish) => self.add(wish, who).await,
            TokenOrder::Revoke(name) => self.revoke(&name, who).await,
        }
    }

    async fn add(&self, wish: TokenWish, who: &str) -> Result<TokenDone, Refusal> {
        let refuse = |code: &str, what: String, help: Option<&str>| {
            Err(Refusal { code: code.to_owned(), what, help: help.map(str::to_owned) })
        };
        if let Err(what) = wish.check() {
            return refuse("token.malformed", what, None);
        }
        let mut book = TokenBook::clone(&self.publish.borrow());
        if book.len() >= TOKENS_MAX {
            let help = "revoke those whose time is over: farmhand tokens list";
            return refuse("token.too_many", format!("there are {TOKENS_MAX} tokens already"), Some(help));
        }
        let token = loop {
            let id = base16ct::lower::encode_string(&rand::random::<[u8; 4]>());
            if book.find(&id).is_none() {
                break Token { id, secret: rand::random(), certificate: self.certificate };
            }
        };
        let created = UnixMillis::from(SystemTime::now());
        let expires = wish.lasts_s.map(|seconds| created.plus(Duration::from_secs(seconds)));
        let TokenWish { owner, role, .. } = wish;
        let secret_sha256 = token.secret_sha256();
        let record = TokenRecord { id: token.id.clone(), owner, role, secret_sha256, created, expires };
        let until = expires.map_or_else(|| "until it is revoked".to_owned(), |at| format!("until {}", date(at)));
        let what = format!("a token of role {} was made for {}, {until}", role.as_str(), record.owner);
        let audit = audit(created, who, &what, &record.id);
        self.keep(vec![Promise::Token(record.clone()), audit]).await?;
        book.insert(record.clone());
        self.publish.send_replace(Arc::new(book));
        Ok(TokenDone { what, token: Some(token.emit()), records: vec![record] })
    }

    async fn revoke(&self, name: &str, who: &str) -> Result<TokenDone, Refusal> {
        let mut book = TokenBook::clone(&self.publish.borrow());
        let meant = |record: &&TokenRecord| record.id == name || record.owner == name;
        let records: Vec<TokenRecord> = book.records().filter(meant).cloned().collect();
        if records.is_empty() {
            let what = format!("no token has the id `{name}`, and nobody called so has one");
            let help = Some("`farmhand tokens list` shows them".to_owned());
            return Err(Refusal { code: "token.unknown".to_owned(), what, help });
        }
        let now = UnixMillis::from(SystemTime::now());
        let mut batch = Vec::new();
        for record in &records {
            book.remove(&record.id);
            batch.push(Promise::ForgetToken(record.id.clone()));
            let what = format!("the token of {} was revoked", record.owner);
            batch.push(audit(now, who, &what, &record.id));
        }
        self.keep(batch).await?;
        self.publish.send_replace(Arc::new(book));
        let what = match records.as_slice() {
            [only] => format!("the token {} of {} counts no more", only.id, only.owner),
            several => format!("{} tokens of {name} count no more", several.len()),
        };
        Ok(TokenDone { what, token: None, records })
    }

    async fn note(&self, refused: &RefusedToken) {
        let who = format!("somebody at {}", refused.from);
        let what = format!("a token was refused, {} in a row: {}", refused.count, refused.why);
        let record = AuditRecord { at: refused.at, who, what, target: "adb server".to_owned() };
        if let Err(why) = self.store.commit(vec![Promise::Audit(record)]).await {
            warn!("a wrong token from {} is not in the audit: {why}", refused.from);
        }
    }

    async fn keep(&self, batch: Vec<Promise>) -> Result<(), Refusal> {
        self.store.commit(batch).await.map_err(|error| Refusal {
            code: "token.store".to_owned(),
            what: error.to_string(),
            help: Some("nothing has changed; look for room in the state directory".to_owned()),
        })
    }
}

fn audit(at: UnixMillis, who: &str, what: &str, id: &str) -> Promise {
    Promise::Audit(AuditRecord { at, who: who.to_owned(), what: what.to_owned(), target: format!("token {id}") })
}

fn date(at: UnixMillis) -> String {
    let since = Duration::from_millis(u64::try_from(at.0).unwrap_or(0));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::sync::oneshot;

    use super::*;
    use crate::adb::server::tokens::TokenError;
    use crate::rack::access::Role;
    use crate::store::StateDir;

    async fn ask(tokens: &Tokens, order: TokenOrder) -> Result<TokenDone, Refusal> {
        let (answer, answered) = oneshot::channel();
        tokens.orders.try_send(TokenAsked { order, who: "root".to_owned(), answer }).unwrap();
        answered.await.unwrap()
    }

    fn wish(owner: &str, lasts_s: Option<u64>) -> TokenOrder {
        TokenOrder::Add(TokenWish { owner: owner.to_owned(), role: Role::Use, lasts_s })
    }

    #[tokio::test]
    async fn a_token_is_shown_once_kept_as_a_hash_and_counts_until_it_is_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::lock(dir.path()).unwrap();
        let store = Store::open(&state).unwrap();
        let tokens = spawn(store.clone(), Vec::new(), [9; 32], CancellationToken::new());
        let made = ask(&tokens, wish("mara", Some(60))).await.unwrap();
        let token = Token::parse(&made.token.unwrap()).unwrap();
        assert_eq!(token.certificate, [9; 32]);
        let known = store.load_tokens().await.unwrap();
        assert_eq!(known[0].secret_sha256, token.secret_sha256());
        assert_eq!(known[0].expires, Some(known[0].created.plus(Duration::from_secs(60))));
        assert_eq!(**tokens.book.borrow(), TokenBook::new(known));
        let database = std::fs::read(dir.path().join("promises.db")).unwrap();
        let log = std::fs::read(dir.path().join("promises.db-wal")).unwrap();
        for file in [database, log] {
            let has = |needle: &[u8]| file.windows(needle.len()).any(|window| window == needle);
            assert!(!has(&token.secret) && !has(base16ct::lower::encode_string(&token.secret).as_bytes()));
        }

        ask(&tokens, wish("mara", None)).await.unwrap();
        ask(&tokens, wish("jon", None)).await.unwrap();
        assert_eq!(ask(&tokens, TokenOrder::Revoke("nobody".to_owned())).await.unwrap_err().code, "token.unknown");
        assert_eq!(ask(&tokens, wish("a\nb", None)).await.unwrap_err().code, "token.malformed");
        let gone = ask(&tokens, TokenOrder::Revoke("mara".to_owned())).await.unwrap();
        assert_eq!((gone.what.as_str(), gone.records.len()), ("2 tokens of mara count no more", 2));
        let left: Vec<_> = tokens.book.borrow().records().map(|record| record.owner.clone()).collect();
        assert_eq!(left, ["jon"]);
        assert_eq!(store.load_tokens().await.unwrap().len(), 1);
        let audit = store.audit(8).await.unwrap();
        assert!(audit.iter().all(|line| line.who == "root" && line.target.starts_with("token ")), "{audit:?}");
        assert_eq!(audit.len(), 5);
        assert!(audit[4].what.starts_with("a token of role use was made for mara, until 2"), "{audit:?}");
    }

    #[tokio::test]
    async fn a_wrong_token_stands_in_the_audit_with_its_address() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::lock(dir.path()).unwrap();
        let store = Store::open(&state).unwrap();
        let tokens = spawn(store.clone(), Vec::new(), [9; 32], CancellationToken::new());
        let from = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
        tokens
            .refused
            .send(RefusedToken { at: UnixMillis(5), from, why: TokenError::Unknown, count: 8 })
            .await
            .unwrap();
        // One that is answered behind it.
        ask(&tokens, TokenOrder::Revoke("nobody".to_owned())).await.unwrap_err();
        let audit = loop {
            let audit = store.audit(8).await.unwrap();
            if !audit.is_empty() {
                break audit;
            }
        };
        assert_eq!((audit[0].who.as_str(), audit[0].target.as_str()), ("somebody at 192.0.2.7", "adb server"));
        let what = "a token was refused, 8 in a row: this token is not known here, or was revoked";
        assert_eq!(audit[0].what, what);
    }
}
