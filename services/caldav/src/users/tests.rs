use super::*;

struct Counting(core::cell::Cell<u8>);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.replace(self.0.get().wrapping_add(1));
        }
    }
}

const HERE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 1));

/// A hash of `password` that is cheap to check.
const CHEAP: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

fn users() -> Users {
    let password = StoredPassword::parse(CHEAP).unwrap();
    let user = User { password, display_name: String::new(), mail: Vec::new() };
    Users::new([("alice".to_owned(), user.clone()), ("bob".to_owned(), user)], &Counting(0.into()))
}

fn credentials(user: &str, password: &str) -> Credentials {
    Credentials { user: user.into(), password: password.into() }
}

/// Runs a request's whole way in.
fn log_in(users: &mut Users, user: &str, password: &str, now: Instant) -> Option<Rc<str>> {
    match users.begin(credentials(user, password), HERE, now) {
        Step::Granted(name) => Some(name),
        Step::Verify(verification) => {
            let right = verification.run().unwrap();
            users.finish(&verification, right, now)
        }
        Step::Later(_) => None,
    }
}

#[test]
fn headers() {
    let read = |value: &str| Credentials::from_header(value.as_bytes()).map(|c| (c.user, c.password));
    assert_eq!(read("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), Some(("Aladdin".into(), "open sesame".into())));
    // RFC 7617, section 2.1: UTF-8, and a colon in the password.
    assert_eq!(read("basic dGVzdDoxMjPCow=="), Some(("test".into(), "123£".into())));
    assert_eq!(read("Basic YTpiOmM="), Some(("a".into(), "b:c".into())));
    for value in ["", "Basic", "Basic ", "Basic !!", "Bearer QTpC", "Basic QQ==", "Basic OmE=", "Basic /zph"]
    {
        assert_eq!(read(value), None, "{value}");
    }
}

#[test]
fn the_right_password_and_only_that() {
    let mut users = users();
    let now = Instant::START;
    assert_eq!(log_in(&mut users, "alice", "password", now).as_deref(), Some("alice"));
    assert_eq!(log_in(&mut users, "alice", "Password", now), None);
    assert_eq!(log_in(&mut users, "carol", "password", now), None);
}

#[test]
fn a_success_is_remembered_for_its_password_and_its_time() {
    let mut users = users();
    let now = Instant::START;
    log_in(&mut users, "alice", "password", now);
    assert!(matches!(users.begin(credentials("alice", "password"), HERE, now), Step::Granted(_)));
    assert!(matches!(users.begin(credentials("alice", "passwort"), HERE, now), Step::Verify(_)));
    assert!(matches!(users.begin(credentials("bob", "password"), HERE, now), Step::Verify(_)));
    assert!(matches!(users.begin(credentials("alice", "password"), HERE, now + REMEMBERED), Step::Verify(_)));
}

#[test]
fn guessing_is_slowed_down_but_not_for_who_is_remembered() {
    let mut users = users();
    let now = Instant::START;
    log_in(&mut users, "alice", "password", now);
    let mut tries = 0;
    while let Step::Verify(verification) = users.begin(credentials("bob", "guess"), HERE, now) {
        assert_eq!(users.finish(&verification, false, now), None);
        tries += 1;
        assert!(tries < 100);
    }
    assert_eq!(log_in(&mut users, "bob", "password", now), None);
    assert_eq!(log_in(&mut users, "alice", "password", now).as_deref(), Some("alice"));
    assert_eq!(log_in(&mut users, "bob", "password", now + Duration::from_mins(2)).as_deref(), Some("bob"));
}

#[test]
fn an_unknown_name_costs_the_same_work() {
    let users = users();
    let Step::Verify(verification) = users.begin(credentials("nobody", "x"), HERE, Instant::START) else {
        panic!()
    };
    assert!(verification.stored.is_some());
    assert_eq!(verification.run(), Ok(false));
}
