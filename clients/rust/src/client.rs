//! Calls the services of a mesh.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use tonic::{Code, Response, Status, Streaming};
use zeroize::Zeroizing;

use crate::connection::{Channel, Connection, Pem};
use crate::contracts::strongroom::access::v1::{self as access, session_service_client::SessionServiceClient};
use crate::contracts::strongroom::crypto::v1::{self as crypto, crypto_service_client::CryptoServiceClient};
use crate::endpoint::Endpoint;
use crate::key_calls::{DataKey, Decrypted, Encrypted, KeyCalls};
use crate::profile::Profile;
use crate::tokens::{Caller, Token};
use crate::{Context, Credentials, Error};

const SESSION_SECONDS: i64 = 3600;
/// What events call the sessions of an assumed role that nobody named.
const SESSION_NAME: &str = "strongroom";

/// The services of a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Accounts, principals, policies, sessions, keys.
    Keystore,
    /// Every cryptographic operation.
    Crypto,
    /// Secrets.
    Secrets,
    /// The audit log.
    Audit,
}

impl Service {
    const ALL: [Self; 4] = [Self::Keystore, Self::Crypto, Self::Secrets, Self::Audit];

    /// As profiles and errors name it.
    pub fn id(self) -> &'static str {
        match self {
            Self::Keystore => "keystore",
            Self::Crypto => "crypto",
            Self::Secrets => "secrets",
            Self::Audit => "audit",
        }
    }
}

/// Calls the services of a mesh; clones share their connections.
///
/// Every method of every service is called by [`Client::call`], [`Client::call_repeatable`] or [`Client::stream`], with the
/// generated clients of [`crate::contracts`].
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    account: String,
    timeout: Duration,
    endpoints: HashMap<Service, Endpoint>,
    session_name: String,
    caller: Option<Caller>,
}

impl Client {
    /// A client for a profile of the profile file; the empty name is `$STRONGROOM_PROFILE`, or the current one.
    /// `$STRONGROOM_TOKEN` is a session token that is used in place of the profile's credentials.
    pub fn from_profile(name: &str) -> Result<Self, Error> {
        let profile = Profile::find(name)?;
        let mut builder = Self::builder().account(&profile.account).session_name(&profile.session_name);
        builder.trust = profile.trust();
        builder.credentials = profile.credentials();
        for service in Service::ALL {
            if let Some(addresses) = profile.endpoints.get(service.id()) {
                builder = builder.endpoint(service, addresses);
            }
        }
        Ok(builder.build())
    }

    /// Begins a client.
    pub fn builder() -> Builder {
        Builder {
            account: String::new(),
            timeout: Duration::from_secs(10),
            endpoints: HashMap::new(),
            trust: None,
            credentials: None,
            session_name: String::new(),
        }
    }

    /// Calls a method that must not happen twice: it is tried again only where nothing was done for certain, since no
    /// connection could be made, or the service said so.
    ///
    /// `call` makes the call with a generated client: `|channel| async move { KeyServiceClient::new(channel)… }`.
    pub async fn call<A, F>(&self, service: Service, call: impl Fn(Channel) -> F) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.called(self.shared.caller.as_ref(), service, call, false, self.deadline()).await
    }

    /// Calls a method that is safe to repeat: it changes nothing, or its request has a request id.
    ///
    /// What nobody answered is tried at the next address at once, and at all of them after a random while, until the
    /// client's timeout is over.
    pub async fn call_repeatable<A, F>(&self, service: Service, call: impl Fn(Channel) -> F) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.called(self.shared.caller.as_ref(), service, call, true, self.deadline()).await
    }

    /// Calls a method that answers as a stream, which has no deadline and is not begun again: begin it with the
    /// `resume_token` of the last message when it ends. What a message fails with becomes an [`Error`] by `from`.
    pub async fn stream<A, F>(&self, service: Service, call: impl Fn(Channel) -> F) -> Result<Streaming<A>, Error>
    where
        F: Future<Output = Result<Response<Streaming<A>>, Status>>,
    {
        let token = match &self.shared.caller {
            None => None,
            Some(caller) => self.token(caller, "", self.deadline()).await?,
        };
        self.endpoint(service)?.open(call, token.as_deref()).await
    }

    /// The account's own name, `accounts/…`, that lists and new resources are in.
    pub fn account_name(&self) -> Result<String, Error> {
        if self.shared.account.is_empty() {
            return Err(Error::invalid("FIELD_REQUIRED", "no account is set: give the name in full", "account"));
        }
        Ok(format!("accounts/{}", self.shared.account))
    }

    async fn called<A, F>(
        &self,
        caller: Option<&Caller>,
        service: Service,
        call: impl Fn(Channel) -> F,
        repeatable: bool,
        deadline: Instant,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let endpoint = self.endpoint(service)?;
        let Some(caller) = caller else {
            return endpoint.call(&call, deadline, repeatable, None).await;
        };
        let token = self.token(caller, "", deadline).await?;
        match endpoint.call(&call, deadline, repeatable, token.as_deref()).await {
            Err(error) if matches!(error.reason.as_str(), "TOKEN_EXPIRED" | "TOKEN_INVALID") => {
                let renewed = self.token(caller, token.as_deref().unwrap_or_default(), deadline).await?;
                if renewed == token {
                    return Err(error);
                }
                endpoint.call(&call, deadline, repeatable, renewed.as_deref()).await
            }
            outcome => outcome,
        }
    }

    /// When a call ends that begins now.
    fn deadline(&self) -> Instant {
        Instant::now() + self.shared.timeout
    }

    fn endpoint(&self, service: Service) -> Result<&Endpoint, Error> {
        self.shared.endpoints.get(&service).ok_or_else(|| {
            let message = format!("the address of {} is not known", service.id());
            Error::new("ENDPOINT_UNKNOWN", message, Code::FailedPrecondition, service.id())
        })
    }

    /// The session token for a call that begins now, and another one than `refused` where there is another.
    fn token<'a>(&'a self, caller: &'a Caller, refused: &'a str, deadline: Instant) -> TokenFuture<'a> {
        Box::pin(async move {
            match &caller.credentials {
                Credentials::ClientCertificate { .. } => Ok(None),
                Credentials::SessionToken(token) => Ok(Some(token.clone())),
                _ => caller.exchanged.current(refused, deadline, || self.exchange(caller, deadline)).await.map(Some),
            }
        })
    }

    async fn exchange(&self, caller: &Caller, deadline: Instant) -> Result<Token, Error> {
        let session = match &caller.credentials {
            Credentials::AssumedRole { role, external_id, .. } => {
                self.assumed(caller, role, external_id, deadline).await?
            }
            credentials => self.begun(credentials, deadline).await?,
        };
        let seconds = session.expire_time.map_or(0, |time| u64::try_from(time.seconds).unwrap_or(0));
        Ok(Token { text: session.token, expires: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) })
    }

    async fn begun(&self, credentials: &Credentials, deadline: Instant) -> Result<access::Session, Error> {
        let request = access::CreateSessionRequest {
            credential: credentials.exchange()?,
            session_name: self.shared.session_name.clone(),
            duration: Some(prost_types::Duration { seconds: SESSION_SECONDS, nanos: 0 }),
            ..Default::default()
        };
        let begin = |channel: Channel| {
            let request = request.clone();
            async move { SessionServiceClient::new(channel).create_session(request).await }
        };
        self.called(None, Service::Keystore, begin, true, deadline).await
    }

    async fn assumed(
        &self,
        caller: &Caller,
        role: &str,
        external_id: &str,
        deadline: Instant,
    ) -> Result<access::Session, Error> {
        let name = if self.shared.session_name.is_empty() { SESSION_NAME } else { &self.shared.session_name };
        let request = access::AssumeRoleRequest {
            role: role.to_owned(),
            session_name: name.to_owned(),
            external_id: external_id.to_owned(),
            ..Default::default()
        };
        let assume = |channel: Channel| {
            let request = request.clone();
            async move { SessionServiceClient::new(channel).assume_role(request).await }
        };
        self.called(caller.before.as_deref(), Service::Keystore, assume, true, deadline).await
    }
}

/// Boxed, since who assumes a role has a token too.
type TokenFuture<'a> = Pin<Box<dyn Future<Output = Result<Option<String>, Error>> + Send + 'a>>;

#[async_trait]
impl KeyCalls for Client {
    async fn generate_data_key(&self, key: &str, bytes: u32, context: &Context) -> Result<DataKey, Error> {
        let request = crypto::GenerateDataKeyRequest {
            key: self.key_name(key)?,
            number_of_bytes: bytes,
            encryption_context: context.clone().into_iter().collect(),
        };
        let generate = |channel: Channel| {
            let request = request.clone();
            async move { CryptoServiceClient::new(channel).generate_data_key(request).await }
        };
        let answer = self.call_repeatable(Service::Crypto, generate).await?;
        verify(&answer.plaintext, answer.plaintext_crc32c, "plaintext")?;
        verify(&answer.ciphertext, answer.ciphertext_crc32c, "ciphertext")?;
        Ok(DataKey { plaintext: Zeroizing::new(answer.plaintext), ciphertext: answer.ciphertext, key: answer.key })
    }

    async fn encrypt(&self, key: &str, plaintext: &[u8], context: &Context) -> Result<Encrypted, Error> {
        let request = crypto::EncryptRequest {
            key: self.key_name(key)?,
            plaintext: plaintext.to_vec(),
            encryption_context: context.clone().into_iter().collect(),
            plaintext_crc32c: Some(crc32c::crc32c(plaintext)),
        };
        let encrypt = |channel: Channel| {
            let request = request.clone();
            async move { CryptoServiceClient::new(channel).encrypt(request).await }
        };
        let answer = self.call_repeatable(Service::Crypto, encrypt).await?;
        verify(&answer.ciphertext, answer.ciphertext_crc32c, "ciphertext")?;
        Ok(Encrypted { ciphertext: answer.ciphertext, key: answer.key })
    }

    async fn decrypt(&self, ciphertext: &[u8], context: &Context, key: &str) -> Result<Decrypted, Error> {
        let request = crypto::DecryptRequest {
            ciphertext: ciphertext.to_vec(),
            encryption_context: context.clone().into_iter().collect(),
            key: if key.is_empty() { String::new() } else { self.key_name(key)? },
            ciphertext_crc32c: Some(crc32c::crc32c(ciphertext)),
        };
        let decrypt = |channel: Channel| {
            let request = request.clone();
            async move { CryptoServiceClient::new(channel).decrypt(request).await }
        };
        let answer = self.call_repeatable(Service::Crypto, decrypt).await?;
        verify(&answer.plaintext, answer.plaintext_crc32c, "plaintext")?;
        Ok(Decrypted { plaintext: Zeroizing::new(answer.plaintext), key: answer.key })
    }

    fn key_name(&self, name: &str) -> Result<String, Error> {
        if name.starts_with("accounts/") {
            return Ok(name.to_owned());
        }
        let alias = name.strip_prefix("alias/");
        let id = alias.unwrap_or(name);
        if id.is_empty() || id.contains('/') {
            let message = format!("key is not an id, alias/{{alias}}, or accounts/…: {name}");
            return Err(Error::invalid("NAME_MALFORMED", message, "key"));
        }
        let collection = if alias.is_some() { "aliases" } else { "keys" };
        Ok(format!("{}/{collection}/{id}", self.account_name()?))
    }
}

fn verify(data: &[u8], checksum: Option<u32>, field: &str) -> Result<(), Error> {
    if checksum.is_some_and(|checksum| checksum != crc32c::crc32c(data)) {
        let message = format!("{field} was altered on the way, by its checksum");
        return Err(Error::new("ANSWER_CORRUPTED", message, Code::DataLoss, field));
    }
    Ok(())
}

/// What a client is made of.
pub struct Builder {
    account: String,
    timeout: Duration,
    endpoints: HashMap<Service, String>,
    trust: Option<PathBuf>,
    credentials: Option<Credentials>,
    session_name: String,
}

impl Builder {
    /// Where a service is: `host:port`, several joined by commas.
    #[must_use]
    pub fn endpoint(mut self, service: Service, addresses: &str) -> Self {
        self.endpoints.insert(service, addresses.to_owned());
        self
    }

    /// The account whose keys are named by their ids alone.
    #[must_use]
    pub fn account(mut self, id: &str) -> Self {
        id.clone_into(&mut self.account);
        self
    }

    /// PEM: the certificate authorities of the mesh, read again when the file is replaced; else the system's.
    #[must_use]
    pub fn trust(mut self, file: impl Into<PathBuf>) -> Self {
        self.trust = Some(file.into());
        self
    }

    /// Who calls.
    #[must_use]
    pub fn credentials(mut self, who: Credentials) -> Self {
        self.credentials = Some(who);
        self
    }

    /// What events call the sessions that credentials are exchanged for.
    #[must_use]
    pub fn session_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.session_name);
        self
    }

    /// How long a call takes at most, retries included; 10 seconds unless said.
    #[must_use]
    pub fn timeout(mut self, longest: Duration) -> Self {
        self.timeout = longest;
        self
    }

    /// The client; connections are made with the first call.
    pub fn build(self) -> Client {
        let identity = self.credentials.as_ref().and_then(Credentials::certificate);
        let identity = identity.map(|(certificate, key)| (certificate.to_owned(), key.to_owned()));
        let pem = Pem { trust: self.trust, identity };
        let connect = |service: Service, addresses: &str| {
            let connections = addresses.split(',').map(|one| Connection::new(one.trim(), pem.clone())).collect();
            Endpoint::new(service.id(), connections)
        };
        Client {
            shared: Arc::new(Shared {
                account: self.account,
                timeout: self.timeout,
                endpoints: self.endpoints.iter().map(|(service, one)| (*service, connect(*service, one))).collect(),
                session_name: self.session_name,
                caller: self.credentials.map(Caller::new),
            }),
        }
    }
}
