//! How a caller proves who it is.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use tonic::Code;

use crate::Error;
use crate::contracts::strongroom::access::v1 as pb;

/// How a caller proves who it is. Files are read again when they are replaced.
#[derive(Clone)]
pub enum Credentials {
    /// mTLS on every connection: PEM files.
    ClientCertificate {
        /// The certificate, with its chain.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// A session token that somebody else got: when it has expired, calls fail with `TOKEN_EXPIRED`.
    SessionToken(String),
    /// A client certificate that is exchanged for session tokens, and again before they expire.
    CertificateSession {
        /// The certificate, with its chain.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// A client key that is exchanged for session tokens, and again before they expire.
    ClientKeySession {
        /// `accounts/{account}/clientKeys/{id}`.
        name: String,
        /// The file that holds its secret.
        secret_file: PathBuf,
    },
    /// An issuer's token that is exchanged for session tokens, and again before they expire.
    OidcTokenSession {
        /// The id of the account that accepts the issuer.
        account: String,
        /// The file that holds the token.
        token_file: PathBuf,
    },
    /// Sessions as a role, which `source` assumes, and again before they expire.
    AssumedRole {
        /// Who assumes it.
        source: Box<Credentials>,
        /// `accounts/{account}/roles/{id}`.
        role: String,
        /// What the accounts of a role and of its caller agreed on; empty for nothing.
        external_id: String,
    },
}

impl Credentials {
    /// The PEM files of the client's own certificate.
    pub(crate) fn certificate(&self) -> Option<(&Path, &Path)> {
        match self {
            Self::ClientCertificate { certificate, key } | Self::CertificateSession { certificate, key } => {
                Some((certificate, key))
            }
            Self::AssumedRole { source, .. } => source.certificate(),
            _ => None,
        }
    }

    /// What a session is asked for with; nothing where there is none to ask for.
    pub(crate) fn exchange(&self) -> Result<Option<pb::create_session_request::Credential>, Error> {
        use pb::create_session_request::Credential;
        Ok(match self {
            Self::ClientCertificate { .. } | Self::SessionToken(_) | Self::AssumedRole { .. } => None,
            Self::CertificateSession { .. } => Some(Credential::Certificate(pb::CertificateCredential {})),
            Self::ClientKeySession { name, secret_file } => Some(Credential::ClientKey(pb::ClientKeyCredential {
                client_key: name.clone(),
                secret: read_text(secret_file)?,
            })),
            Self::OidcTokenSession { account, token_file } => Some(Credential::OidcToken(pb::OidcTokenCredential {
                account: format!("accounts/{account}"),
                token: read_text(token_file)?,
            })),
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ClientCertificate { .. } => "ClientCertificate",
            Self::SessionToken(_) => "SessionToken",
            Self::CertificateSession { .. } => "CertificateSession",
            Self::ClientKeySession { .. } => "ClientKeySession",
            Self::OidcTokenSession { .. } => "OidcTokenSession",
            Self::AssumedRole { .. } => "AssumedRole",
        })
    }
}

/// What a file of credentials holds. Fails with `CREDENTIALS_UNREADABLE`.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(|error| {
        Error::new("CREDENTIALS_UNREADABLE", format!("{}: {error}", file.display()), Code::FailedPrecondition, "")
    })
}

fn read_text(file: &Path) -> Result<String, Error> {
    Ok(String::from_utf8_lossy(&read(file)?).trim().to_owned())
}
