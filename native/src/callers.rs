//! Whose a call is, by what Python has told of its credential before. This is no authentication: it decides whose turn it
//! is, and whom a call shares with.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use ring::digest::{Context, SHA256};

use crate::turns::Caller;

const MOST: usize = 65_536;
/// Until Python is asked again.
const FRESH: Duration = Duration::from_secs(1);
/// Until what it said is forgotten.
const KEPT: Duration = Duration::from_secs(60);
const SHARED_IPV6_GROUPS: usize = 4;

/// The digest of a credential.
pub type Key = [u8; 32];

/// Whose a call is, and by which credential.
pub struct Whose {
    /// Missing where the call comes without a credential.
    pub key: Option<Key>,
    /// Whom it shares with.
    pub caller: Arc<Caller>,
    /// Whether Python should be asked whose the credential is.
    pub is_stale: bool,
}

struct Known {
    caller: Arc<Caller>,
    at: Instant,
}

/// The credentials that Python knew lately.
#[derive(Default)]
pub struct Callers(Mutex<HashMap<Key, Known>>);

impl Callers {
    /// Whose a call is, by its headers, the SPIFFE id of its connection and what a connection without either is called.
    pub fn find(&self, headers: &HeaderMap, spiffe_id: &str, stranger: &Arc<Caller>) -> Whose {
        let Some(key) = key_of(headers, spiffe_id, &stranger.member) else {
            return Whose { key: None, caller: stranger.clone(), is_stale: false };
        };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&key) {
            Some(found) if found.at.elapsed() < KEPT => {
                Whose { key: Some(key), caller: found.caller.clone(), is_stale: found.at.elapsed() > FRESH }
            }
            _ => Whose { key: Some(key), caller: stranger.clone(), is_stale: true },
        }
    }

    /// Notes whose a credential is, or that it is nobody's.
    pub fn learn(&self, key: Key, caller: Option<Caller>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(caller) = caller else {
            known.remove(&key);
            return;
        };
        if known.len() >= MOST && !known.contains_key(&key) {
            known.clear();
        }
        let at = Instant::now();
        match known.get_mut(&key) {
            Some(same) if *same.caller == caller => same.at = at,
            _ => {
                known.insert(key, Known { caller: Arc::new(caller), at });
            }
        }
    }
}

/// A connection whose calls are nobody's that is known. Connections from one network share.
pub fn stranger(address: IpAddr, peer: &str) -> Caller {
    Caller { group: network(address).into(), member: peer.into(), known: false }
}

/// The address, or for IPv6 the network that one host is usually given whole.
pub fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(four) => four.to_string(),
        IpAddr::V6(six) => {
            let mut segments = six.segments();
            segments[SHARED_IPV6_GROUPS..].fill(0);
            format!("{}/64", Ipv6Addr::from(segments))
        }
    }
}

fn key_of(headers: &HeaderMap, spiffe_id: &str, connection: &str) -> Option<Key> {
    let mut digest = Context::new(&SHA256);
    if let Some(authorization) = headers.get(AUTHORIZATION) {
        digest.update(authorization.as_bytes());
    } else if spiffe_id.is_empty() {
        return None;
    } else {
        // A process of a service has a connection of its own.
        for part in ["certificate", spiffe_id, connection] {
            digest.update(part.as_bytes());
            digest.update(b"\0");
        }
    }
    digest.finish().as_ref().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(group: &str) -> Caller {
        Caller { group: group.into(), member: "m".into(), known: true }
    }

    fn with_token(token: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, http::HeaderValue::from_static(token))])
    }

    #[test]
    fn a_credential_is_a_strangers_until_python_knows_it() {
        let (callers, stranger) = (Callers::default(), Arc::new(stranger([127, 0, 0, 1].into(), "peer")));
        let first = callers.find(&with_token("Bearer a"), "", &stranger);
        assert!(!first.caller.known && first.is_stale);
        callers.learn(first.key.unwrap(), Some(known("account")));
        let second = callers.find(&with_token("Bearer a"), "", &stranger);
        assert_eq!((&*second.caller.group, second.is_stale), ("account", false));
        assert!(!callers.find(&with_token("Bearer b"), "", &stranger).caller.known);
        callers.learn(first.key.unwrap(), None);
        assert!(!callers.find(&with_token("Bearer a"), "", &stranger).caller.known);
    }

    #[test]
    fn a_call_without_a_credential_asks_nobody() {
        let stranger = Arc::new(stranger([127, 0, 0, 1].into(), "peer"));
        let found = Callers::default().find(&HeaderMap::new(), "", &stranger);
        assert!(found.key.is_none() && !found.is_stale);
    }

    #[test]
    fn hosts_of_one_ipv6_network_share() {
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::2".parse().unwrap()));
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), "10.0.0.1");
    }
}
