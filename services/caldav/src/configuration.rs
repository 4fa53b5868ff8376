//! The configuration: one TOML file, or several of a bundle that are read as one.
//!
//! ```toml
//! plain = false                   # also serve over HTTP without TLS
//! url = "https://dav.example.org" # where clients reach this server, for redirections; default: as they asked
//! operators = ["192.0.2.0/24"]    # who may read /metrics and /events; default: nobody
//!
//! [limits]
//! resource-bytes = 1048576        # largest event or card
//! request-bytes = 2097152         # largest request
//! results = 20000                 # most results of one report
//! response-bytes = 67108864       # largest answer
//!
//! [users.alice]                   # made by deploy/passwd.sh
//! password = "$argon2id$v=19$m=7168,t=5,p=1$..."
//! name = "Alice Example"
//! mail = ["alice@example.org"]
//! ```

use core::ops::Range;
use std::collections::BTreeMap;

use platform::config::{self, Bundle, ConfigurationError};
use platform::device::Entropy;
use platform::net::Cidr;
use serde::Deserialize;
use toml::Spanned;

use crate::dav::Limits;
use crate::repository::MAX_RESOURCE_BYTES;
use crate::users::{OutOfMemory, StoredPassword, User};

/// Longest name of a user, in bytes: it is a part of every path and key.
const MAX_USER_NAME: usize = 64;

/// What an operator decides.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    /// Whether requests without TLS are served. They carry passwords that anybody on the way can read.
    pub plain: bool,
    /// The scheme and authority where clients reach this server over TLS, without a slash at the end.
    pub url: Option<String>,
    /// The networks whose hosts may read metrics and recent events.
    pub operators: Vec<Cidr>,
    /// Limits of the protocol.
    pub limits: Limits,
    /// Users by name.
    pub users: BTreeMap<String, User>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    plain: bool,
    url: Option<Spanned<String>>,
    #[serde(default)]
    operators: Vec<Spanned<String>>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    users: BTreeMap<Spanned<String>, UserTable>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LimitsTable {
    resource_bytes: Option<Spanned<usize>>,
    request_bytes: Option<Spanned<usize>>,
    results: Option<Spanned<usize>>,
    response_bytes: Option<Spanned<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct UserTable {
    password: Spanned<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    mail: Vec<Spanned<String>>,
}

impl Configuration {
    /// Reads a bundle: every file whose name ends in `.toml`, in the order of their names.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn of_bundle(bundle: &Bundle) -> Result<Self, ConfigurationError> {
        let mut configuration = Self::default();
        for (file, content) in bundle.files() {
            if file.ends_with(".toml") {
                configuration.read(file, content)?;
            }
        }
        Ok(configuration)
    }

    /// Adds what a file says. What several say, the last decides; a user stands in one file only.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn read(&mut self, file: &str, content: &[u8]) -> Result<(), ConfigurationError> {
        let at = |span: Range<usize>, message: String| ConfigurationError {
            file: file.to_owned(),
            line: Some(line_of(content, span.start)),
            message,
        };
        let read: File = config::parse(file, content)?;
        self.plain |= read.plain;
        if let Some(url) = read.url {
            let plain = url.get_ref().trim_end_matches('/');
            let authority = plain.strip_prefix("https://").unwrap_or_default();
            if authority.is_empty()
                || authority.contains(['/', '?', '#', '@'])
                || !is_visible_ascii(authority)
            {
                let message = "url: a scheme and host such as \"https://dav.example.org:8443\"".to_owned();
                return Err(at(url.span(), message));
            }
            self.url = Some(plain.to_owned());
        }
        for network in read.operators {
            let cidr = network.get_ref().parse().map_err(|_| {
                at(
                    network.span(),
                    "operators: a network such as \"192.0.2.0/24\" or \"2001:db8::/64\"".to_owned(),
                )
            })?;
            self.operators.push(cidr);
        }
        self.limits = read.limits.apply(self.limits, &at)?;
        for (name, table) in read.users {
            let span = name.span();
            let name = name.into_inner();
            if let Err(wrong) = check_user_name(&name) {
                return Err(at(span, format!("users.{name:?}: {wrong}")));
            }
            let user = table.into_user(&name, &at)?;
            if self.users.insert(name.clone(), user).is_some() {
                return Err(at(span, format!("users.{name}: this user is in another file already")));
            }
        }
        Ok(())
    }
}

impl LimitsTable {
    fn apply(
        self,
        mut limits: Limits,
        at: &impl Fn(Range<usize>, String) -> ConfigurationError,
    ) -> Result<Limits, ConfigurationError> {
        let within = |key: &str, value: Option<Spanned<usize>>, limit: &mut usize, range: Range<usize>| {
            let Some(value) = value else { return Ok(()) };
            if !range.contains(value.get_ref()) {
                let message = format!("limits.{key}: a number from {} to {}", range.start, range.end - 1);
                return Err(at(value.span(), message));
            }
            *limit = value.into_inner();
            Ok(())
        };
        // What can be configured is bounded by what the store takes and what an image has in memory.
        within(
            "resource-bytes",
            self.resource_bytes,
            &mut limits.resource_bytes,
            1024..MAX_RESOURCE_BYTES + 1,
        )?;
        within("request-bytes", self.request_bytes, &mut limits.request_bytes, 16 * 1024..(64 << 20) + 1)?;
        within("results", self.results, &mut limits.results, 1..1_000_001)?;
        within("response-bytes", self.response_bytes, &mut limits.response_bytes, 1 << 20..(1 << 30) + 1)?;
        Ok(limits)
    }
}

impl UserTable {
    fn into_user(
        self,
        name: &str,
        at: &impl Fn(Range<usize>, String) -> ConfigurationError,
    ) -> Result<User, ConfigurationError> {
        let password = StoredPassword::parse(self.password.get_ref())
            .map_err(|error| at(self.password.span(), format!("users.{name}.password: {error}")))?;
        let mut mail = Vec::new();
        for address in self.mail {
            let whole = address.get_ref();
            let valid = whole
                .split_once('@')
                .is_some_and(|(local, host)| !local.is_empty() && !host.is_empty())
                && !whole.contains(|c: char| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>'));
            if !valid {
                return Err(at(
                    address.span(),
                    format!("users.{name}.mail: an address such as \"{name}@example.org\""),
                ));
            }
            mail.push(address.into_inner());
        }
        Ok(User { password, display_name: self.name, mail })
    }
}

/// Whether a user can have this name: it is a segment of paths and the part before the colon of HTTP Basic.
fn check_user_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_USER_NAME {
        return Err("a name has 1 to 64 bytes");
    }
    if matches!(name, "." | "..") || name.contains(|c: char| c.is_control() || matches!(c, ':' | '/' | '\\'))
    {
        return Err("a name has no colon, slash, backslash or control character, and is not . or ..");
    }
    Ok(())
}

/// The lines that give a user a password, for a configuration: what `deploy/passwd.sh` prints.
///
/// # Errors
///
/// [`OutOfMemory`] where there is not enough to hash it.
pub fn user_table(
    name: &str,
    password: &str,
    entropy: &dyn Entropy,
) -> Result<Result<String, &'static str>, OutOfMemory> {
    if let Err(wrong) = check_user_name(name) {
        return Ok(Err(wrong));
    }
    let password = StoredPassword::create(password, entropy)?;
    let key: String =
        name.chars().flat_map(|c| if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] }).collect();
    Ok(Ok(format!("[users.\"{key}\"]\npassword = \"{password}\"\n")))
}

fn is_visible_ascii(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn line_of(content: &[u8], offset: usize) -> usize {
    1 + content.iter().take(offset).filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    fn parse(text: &str) -> Result<Configuration, ConfigurationError> {
        let mut configuration = Configuration::default();
        configuration.read("caldav.toml", text.as_bytes()).map(|()| configuration)
    }

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_configuration() {
        let text = format!(
            "plain = true\nurl = \"https://dav.example.org/\"\n[limits]\nresults = 5\n[users.alice]\npassword = \"{HASH}\"\nname = \"Alice\"\nmail = [\"a@example.org\"]\n[users.\"b@c.d\"]\npassword = \"{HASH}\"\n"
        );
        let read = parse(&text).unwrap();
        assert!(read.plain);
        assert_eq!(read.url.as_deref(), Some("https://dav.example.org"));
        assert_eq!(read.limits.results, 5);
        assert_eq!(read.limits.resource_bytes, Limits::default().resource_bytes);
        assert_eq!(read.users.keys().collect::<Vec<_>>(), ["alice", "b@c.d"]);
        assert_eq!(read.users["alice"].mail, ["a@example.org"]);
        assert!(parse("").unwrap().users.is_empty());
    }

    #[test]
    fn errors_say_where_and_what_would_be_right() {
        assert!(error("\nplian = true").starts_with("caldav.toml, line 2: unknown field `plian`, expected"));
        assert!(
            error("plain = \"yes\"")
                .contains("caldav.toml, line 1: invalid type: string \"yes\", expected a boolean")
        );
        assert!(error("plain = \n").starts_with("caldav.toml, line 1: "));
        assert!(
            error("\n\n[limits]\nresults = 0")
                .starts_with("caldav.toml, line 4: limits.results: a number from 1")
        );
        assert!(error("url = \"dav.example.org\"").contains("https://dav.example.org:8443"));
        assert!(
            error("[users.alice]\npassword = \"secret\"")
                .starts_with("caldav.toml, line 2: users.alice.password: not a PHC")
        );
        assert!(error(&format!("[users.\"a:b\"]\npassword = \"{HASH}\"")).contains("no colon"));
        assert!(
            error(&format!("[users.a]\npassword = \"{HASH}\"\nmail = [\"x\"]"))
                .starts_with("caldav.toml, line 3: users.a.mail")
        );
        assert!(error("operators = [\"here\"]").contains("192.0.2.0/24"));
        assert!(error("[users.alice]\n").contains("missing field `password`"));
    }

    #[test]
    fn files_add_up_and_a_user_stands_in_one() {
        let mut read = parse("plain = true").unwrap();
        let user = format!("[users.alice]\npassword = \"{HASH}\"\n");
        read.read("b.toml", user.as_bytes()).unwrap();
        assert!(read.plain && read.users.contains_key("alice"));
        let again = read.read("c.toml", user.as_bytes()).unwrap_err();
        assert_eq!((again.file.as_str(), again.line), ("c.toml", Some(1)));
    }

    #[test]
    fn a_table_made_here_is_read_here() {
        struct Zero;
        impl Entropy for Zero {
            fn fill(&self, bytes: &mut [u8]) {
                bytes.fill(0);
            }
        }
        let table = user_table("o\"x", "secret", &Zero).unwrap().unwrap();
        let read = parse(&format!("plain = true\n{table}")).unwrap();
        assert_eq!(read.users["o\"x"].password.verify("secret"), Ok(true));
        assert!(user_table("a/b", "secret", &Zero).unwrap().is_err());
    }
}
