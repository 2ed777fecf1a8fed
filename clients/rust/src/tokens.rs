//! Where the session token of a call comes from.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

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
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// A token, and when to exchange for another.
    token: Option<(Token, SystemTime)>,
    /// When an exchange failed last.
    failure: Option<(Error, Instant)>,
}

impl Exchanged {
    /// The token for a call that begins now and ends at `deadline`, unless it is `refused`. Concurrent calls that lack one
    /// make one exchange, also where that fails.
    pub(crate) async fn current<F>(
        &self,
        refused: &str,
        deadline: Instant,
        exchange: impl FnOnce() -> F,
    ) -> Result<String, Error>
    where
        F: Future<Output = Result<Token, Error>>,
    {
        let asked = Instant::now();
        let Ok(mut kept) = tokio::time::timeout_at(deadline.into(), self.kept.lock()).await else {
            return Err(Error::not_in_time("the exchange of credentials for a session", ""));
        };
        let now = SystemTime::now();
        if let Some((token, renew_at)) = kept.token.as_ref()
            && now < *renew_at
            && token.text != refused
        {
            return Ok(token.text.clone());
        }
        // Whoever waited for an exchange that failed waits for no other.
        if let Some((error, at)) = kept.failure.as_ref()
            && *at >= asked
        {
            return Err(error.clone());
        }
        let token = match exchange().await {
            Ok(token) => token,
            Err(error) => {
                kept.failure = Some((error.clone(), Instant::now()));
                return Err(error);
            }
        };
        let left = token.expires.duration_since(now).unwrap_or(Duration::ZERO);
        let text = token.text.clone();
        kept.token = Some((token, now + left / 5 * 4));
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tonic::Code;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    /// A token of so much time, with a number.
    fn lasting(count: &AtomicUsize, time: Duration) -> Result<Token, Error> {
        let text = format!("token-{}", count.fetch_add(1, Ordering::Relaxed));
        Ok(Token { text, expires: SystemTime::now() + time })
    }

    #[tokio::test]
    async fn a_token_is_kept_until_it_is_refused() {
        let (tokens, count) = (Exchanged::default(), AtomicUsize::new(0));
        let exchange = || async { lasting(&count, Duration::from_secs(3600)) };
        assert_eq!(tokens.current("", soon(), exchange).await.unwrap(), "token-0");
        assert_eq!(tokens.current("", soon(), exchange).await.unwrap(), "token-0");
        assert_eq!(tokens.current("token-0", soon(), exchange).await.unwrap(), "token-1");
        // Another call whose token was refused finds the one that was got meanwhile.
        assert_eq!(tokens.current("token-0", soon(), exchange).await.unwrap(), "token-1");
    }

    #[tokio::test]
    async fn a_token_is_exchanged_again_when_a_fifth_of_its_time_is_left() {
        let (tokens, count) = (Exchanged::default(), AtomicUsize::new(0));
        let exchange = || async { lasting(&count, Duration::from_secs(100)) };
        assert_eq!(tokens.current("", soon(), exchange).await.unwrap(), "token-0");
        let left = {
            let mut kept = tokens.kept.lock().await;
            let (token, renew_at) = kept.token.as_mut().unwrap();
            let left = token.expires.duration_since(*renew_at).unwrap();
            *renew_at = SystemTime::now();
            left
        };
        assert!(left >= Duration::from_secs(20) && left < Duration::from_secs(21), "{left:?}");
        assert_eq!(tokens.current("", soon(), exchange).await.unwrap(), "token-1");
    }

    #[tokio::test]
    async fn calls_that_wait_for_an_exchange_share_its_failure_and_keep_their_deadlines() {
        let (tokens, count) = (Arc::new(Exchanged::default()), Arc::new(AtomicUsize::new(0)));
        let calls: Vec<_> = (0..5)
            .map(|_| {
                let (tokens, count) = (tokens.clone(), count.clone());
                let exchange = async move || {
                    count.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    Err(Error::new("UNREACHABLE", "nobody answers", Code::Unavailable, ""))
                };
                tokio::spawn(async move { tokens.current("", soon(), exchange).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let hurried = tokens.current("", Instant::now() + Duration::from_millis(50), || async { unreachable!() });
        assert_eq!(hurried.await.unwrap_err().reason, "DEADLINE_EXCEEDED");
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap_err().reason, "UNREACHABLE");
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
