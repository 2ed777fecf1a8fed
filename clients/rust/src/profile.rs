//! Profiles: where a mesh is and who calls it, in the file that `make run` and `strongroom profile create` write.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde::Deserialize;
use tonic::Code;

use crate::{Credentials, Error};

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    current: String,
    #[serde(default)]
    profiles: HashMap<String, Profile>,
}

/// One mesh and one caller.
#[derive(Deserialize)]
pub(crate) struct Profile {
    #[serde(default)]
    pub(crate) account: String,
    #[serde(default)]
    pub(crate) endpoints: HashMap<String, String>,
    trust: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    #[serde(default)]
    session: bool,
    #[serde(default)]
    client_key: String,
    client_key_secret_file: Option<PathBuf>,
    oidc_token_file: Option<PathBuf>,
    #[serde(default)]
    pub(crate) session_name: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    external_id: String,
    #[serde(skip)]
    file: PathBuf,
}

impl Profile {
    /// The profile `name`; the empty name is `$STRONGROOM_PROFILE`, or the current one.
    pub(crate) fn find(name: &str) -> Result<Self, Error> {
        let name = if name.is_empty() { variable("STRONGROOM_PROFILE") } else { name.to_owned() };
        Self::read(&path(), &name)
    }

    fn read(file: &Path, name: &str) -> Result<Self, Error> {
        let shown = file.display();
        let text = fs::read_to_string(file).map_err(|error| {
            let advice = "`strongroom profile create NAME HOST:PORT` makes one, and so does `make run`";
            failure("PROFILE_NOT_FOUND", format!("{shown}: {error}; {advice}"))
        })?;
        let mut document: Document = toml::from_str(&text)
            .map_err(|error| failure("PROFILE_INVALID", format!("{shown}: {}", error.message())))?;
        let wanted = if name.is_empty() { &document.current } else { name };
        let mut profile = document
            .profiles
            .remove(wanted)
            .ok_or_else(|| failure("PROFILE_NOT_FOUND", format!("there is no profile {wanted:?} in {shown}")))?;
        profile.file = file.to_owned();
        Ok(profile)
    }

    pub(crate) fn trust(&self) -> Option<PathBuf> {
        self.path(self.trust.as_ref())
    }

    /// Who calls: a session token of the environment goes before what the profile says, and assumes its role, too.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        let token = variable("STRONGROOM_TOKEN").trim().to_owned();
        let own = if token.is_empty() { self.own() } else { Some(Credentials::SessionToken(token)) }?;
        if self.role.is_empty() {
            return Some(own);
        }
        let id = self.role.strip_prefix("roles/").unwrap_or(&self.role);
        let role =
            if id.starts_with("accounts/") { id.to_owned() } else { format!("accounts/{}/roles/{id}", self.account) };
        Some(Credentials::AssumedRole { source: Box::new(own), role, external_id: self.external_id.clone() })
    }

    fn own(&self) -> Option<Credentials> {
        let identity = self.path(self.certificate.as_ref()).zip(self.path(self.key.as_ref()));
        if let Some(secret_file) = self.path(self.client_key_secret_file.as_ref()) {
            return Some(Credentials::ClientKeySession { name: self.client_key.clone(), secret_file });
        }
        if let Some(token_file) = self.path(self.oidc_token_file.as_ref()) {
            return Some(Credentials::OidcTokenSession { account: self.account.clone(), token_file });
        }
        identity.map(|(certificate, key)| {
            if self.session {
                Credentials::CertificateSession { certificate, key }
            } else {
                Credentials::ClientCertificate { certificate, key }
            }
        })
    }

    /// Relative to the file, so that profile and certificates can be handed on in one directory.
    fn path(&self, given: Option<&PathBuf>) -> Option<PathBuf> {
        let given = given.filter(|path| !path.as_os_str().is_empty())?;
        if let Ok(rest) = given.strip_prefix("~") {
            return Some(env::home_dir()?.join(rest));
        }
        Some(self.file.parent().unwrap_or(Path::new("")).join(given))
    }
}

fn path() -> PathBuf {
    let chosen = variable("STRONGROOM_CONFIG");
    if !chosen.is_empty() {
        return chosen.into();
    }
    let home = variable("XDG_CONFIG_HOME");
    let directory =
        if home.is_empty() { env::home_dir().unwrap_or_default().join(".config") } else { PathBuf::from(home) };
    directory.join("strongroom").join("profiles.toml")
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn failure(reason: &str, message: String) -> Error {
    Error::new(reason, message, Code::FailedPrecondition, "profile")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(role: &str) -> Option<Credentials> {
        let key = "client_key = \"accounts/main/clientKeys/a\"\nclient_key_secret_file = \"secret\"";
        let mut profile: Profile = toml::from_str(&format!("account = \"main\"\nrole = \"{role}\"\n{key}")).unwrap();
        profile.file = "/etc/strongroom/profiles.toml".into();
        profile.credentials()
    }

    #[test]
    fn a_role_is_assumed_by_whom_the_profile_names() {
        let names = [
            ("reader", "accounts/main/roles/reader"),
            ("roles/reader", "accounts/main/roles/reader"),
            ("accounts/other/roles/reader", "accounts/other/roles/reader"),
        ];
        for (given, full) in names {
            let Some(Credentials::AssumedRole { source, role, .. }) = credentials(given) else { panic!("no role") };
            assert_eq!((role.as_str(), format!("{source:?}").as_str()), (full, "ClientKeySession"));
        }
    }

    #[test]
    fn without_a_role_it_calls_itself() {
        assert_eq!(format!("{:?}", credentials("").unwrap()), "ClientKeySession");
    }
}
