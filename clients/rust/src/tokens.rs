//! Where the session token of a call comes from.

use std::future::Future;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;

use crate::{Credentials, Error};

/// A session token, and when it expires.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) expires: SystemTime,
}

/// Who calls, and the sessions of that.
pub(crate) struct Caller {
    pub(crate) credentials: Credentials,
    pub(crate) exchanged: Exchanged,
    /// Of an assumed role: who assumes it.
    pub(crate) before: Option<Box<Caller>>,
}

impl Caller {
    pub(crate) fn new(credentials: Credentials) -> Self {
        let before = match &credentials {
            Credentials::AssumedRole { source, .. } => Some(Box::new(Self::new(Credentials::clone(source)))),
            _ => None,
        };
        Self { credentials, exchanged: Exchanged::default(), before }
    }
}

/// Tokens that are exchanged for when first asked for, and again when a fifth of their time is left.
#[derive(Default)]
pub(crate) struct Exchanged {
    kept: Mutex<Option<(Token, SystemTime)>>,
}

impl Exchanged {
    /// The token for a call that begins now, unless it is `refused`; concurrent calls that lack one make one exchange.
    pub(crate) async fn current<F>(&self, refused: &str, exchange: impl FnOnce() -> F) -> Result<String, Error>
    where
        F: Future<Output = Result<Token, Error>>,
    {
        let mut kept = self.kept.lock().await;
        let now = SystemTime::now();
        if let Some((token, renew_at)) = kept.as_ref()
            && now < *renew_at
            && token.text != refused
        {
            return Ok(token.text.clone());
        }
        let token = exchange().await?;
        let left = token.expires.duration_since(now).unwrap_or(Duration::ZERO);
        let text = token.text.clone();
        *kept = Some((token, now + left / 5 * 4));
        Ok(text)
    }
}
