//! What a client sends before it has a key, and whatever it does after: the handshake ends, one way or the other.
#![no_main]

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use libfuzzer_sys::fuzz_target;
use platform::device::{ManualClock, Pipe};
use platform::executor::Executor;
use platform::host::SimulatedHost;
use platform::tls::{Acceptor, Identities, Identity, SelfSigned};

const NOW: Duration = Duration::from_secs(1_800_000_000);

thread_local! {
    /// Made once: a key costs more than a thousand handshakes that fail.
    static IDENTITY: OnceCell<Identity> = const { OnceCell::new() };
}

fn make() -> Identity {
    let made = SelfSigned::generate(&["localhost".into()], NOW).expect("a key");
    Identity::from_pem("certificate", made.certificate_pem.as_bytes(), "key", made.key_pem.as_bytes())
        .expect("what was made can be read")
}

fuzz_target!(|bytes: &[u8]| {
    let identity = IDENTITY.with(|identity| {
        identity.get_or_init(make).clone()
    });
    let clock = Rc::new(ManualClock::new(NOW));
    let executor = Executor::new(clock.clone());
    let handle = executor.handle();
    let acceptor = Acceptor::http(&handle, &Identities::new(identity));
    // The first byte is the size of the pieces in which the rest comes; with zero the peer stays and says nothing more.
    let (&piece, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let rest = rest.to_vec();
    let main = {
        let handle = handle.clone();
        async move {
            let (ours, theirs) = Pipe::pair(1024);
            let (mut reader, mut writer) = ours.split();
            handle.spawn(async move {
                for part in rest.chunks(usize::from(piece.max(1)) * 16) {
                    if writer.write_all(part).await.is_err() {
                        return;
                    }
                }
                if piece == 0 {
                    core::future::pending::<()>().await;
                }
                let _ = writer.close().await;
            });
            handle.spawn(async move {
                let mut answers = Vec::new();
                let _ = reader.read_to_end(&mut answers).await;
            });
            let served = async {
                let Ok(mut stream) = acceptor.accept(theirs).await else { return };
                let mut read = Vec::new();
                let _ = stream.read_to_end(&mut read).await;
                let _ = stream.close().await;
            };
            handle.timeout(Duration::from_secs(600), served).await.expect("a handshake has an end");
        }
    };
    executor.run(&SimulatedHost::new(clock), main).expect("no panic");
    assert_eq!(handle.panics(), 0);
});
