//! Whom a request comes from, and when.

use core::time::Duration;
use std::rc::Rc;

use crate::repository::Author;
use crate::users::User;

/// An authenticated user and the time of a request.
#[derive(Debug, Clone)]
pub struct Session {
    /// The user's name, as in paths.
    pub user: Rc<str>,
    /// What is configured for the user.
    pub profile: Rc<User>,
    /// Now on the wall clock.
    pub now: Duration,
}

impl Session {
    /// The name shown to people.
    #[must_use]
    pub fn display_name(&self) -> &str {
        if self.profile.display_name.is_empty() { &self.user } else { &self.profile.display_name }
    }

    /// POSIX time in seconds.
    #[must_use]
    pub fn seconds(&self) -> i64 {
        i64::try_from(self.now.as_secs()).unwrap_or(i64::MAX)
    }

    /// Calls `use_author` with the author of the commits of this request. Without a configured address the user's name
    /// at the reserved domain `invalid` (RFC 2606) stands in for one.
    pub(crate) fn author<R>(&self, use_author: impl FnOnce(&Author<'_>) -> R) -> R {
        let made_up;
        let email = match self.profile.mail.first() {
            Some(mail) => mail.as_str(),
            None => {
                made_up = format!("{}@caldav.invalid", self.user);
                &made_up
            }
        };
        use_author(&Author { name: self.display_name(), email, now: self.seconds() })
    }
}
