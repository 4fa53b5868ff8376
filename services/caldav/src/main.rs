#![forbid(unsafe_code)]
//! The image: the service on its devices.

use core::future::pending;
use core::pin::pin;
use std::rc::Rc;

use caldav::certificate;
use caldav::configuration;
use caldav::reload::Configurator;
use caldav::repository;
use caldav::service::Service;
use futures_util::future::{Either, select};
use platform::http::{self, Server};
use platform::image::{Failure, Image};
use platform::observe::Metrics;
use platform::tls::{self, Identities};

/// Connections that wait to be accepted on each port. They wait for a turn of the executor, not for a thread, so this
/// holds a burst and no more.
const BACKLOG: usize = 256;

platform::image!(include_str!("../image.toml"), serve);

async fn serve(mut image: Image) -> Result<(), Failure> {
    if let [mode, user] = image.arguments().service.as_slice()
        && mode == "--hash-password"
    {
        return hash_password(&image, user);
    }
    if let Some(word) = image.arguments().service.first() {
        return Err(format!("unknown word {word}: the one mode is --hash-password USER").into());
    }
    if image.arguments().check_storage {
        return image.check_storage("storage", repository::verify).await;
    }
    image.resolve_names();
    let handle = image.handle().clone();
    let memory = image.memory_use().limit;
    let configuration = Configurator::read(image.bundle(), memory)?;
    // What is wrong with the certificate is said before anything is opened.
    certificate::configured(image.bundle())?;
    let reloads = image.reloads();
    let storage = image.storage("storage").await?;
    let network = image.network("service")?;
    image.start_syslog(&network)?;
    let entropy = Rc::clone(image.entropy());
    let arena = image.arena();
    let metrics = Metrics::of_image(&handle, move || arena.usage());
    metrics.add_network(&network);
    let (service, first_user) =
        Service::open(&handle, storage.clone(), configuration, &metrics, &*entropy).await?;
    if let Some(first_user) = first_user {
        image.print(&first_user.to_string());
    }

    network.ready().await;
    let addresses: Vec<String> =
        network.addresses().iter().map(|assigned| assigned.cidr.address().to_string()).collect();
    // The first is what people type; with --net user the image is published on the loopback addresses.
    let hostname = image.arguments().hostname.clone();
    let names = hostname.into_iter().chain(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    let names = names.chain(addresses.iter().cloned()).collect();
    let configurator = Configurator { memory, names, storage: storage.clone() };
    let identity = configurator.identity(image.bundle(), handle.wall()).await?;
    let identities = Identities::new(identity);
    metrics.add_identities(&identities);
    let acceptor = Rc::new(tls::Acceptor::http(&handle, &identities));
    let secure = tls::Listener::new(network.listen(443, BACKLOG)?, acceptor);
    let plain = network.listen(80, BACKLOG)?;
    let server = Server::with_http2(&handle, http::Limits::default(), Rc::clone(&service).handler());
    metrics.add_http(server.statistics());

    let urls: Vec<String> = addresses
        .iter()
        .map(|address| {
            if address.contains(':') {
                format!("https://[{address}]/")
            } else {
                format!("https://{address}/")
            }
        })
        .collect();
    image.ready(&urls.join(" "));
    let shutdown = image.shutdown();
    let serving =
        pin!(async { futures_util::join!(server.serve(secure, shutdown), server.serve(plain, shutdown)) });
    let reloading = pin!(async {
        let Some(mut reloads) = reloads else { return pending().await };
        loop {
            let bundle = reloads.next().await;
            let replaced = configurator.replace(&bundle, &service, &identities, &*entropy, handle.wall());
            match replaced.await {
                Ok(first_user) => {
                    first_user.iter().for_each(|user| image.print(&user.to_string()));
                    log::info!("the configuration was read again, and is in use");
                }
                Err(error) => log::error!("the configuration stays as it was: {error}"),
            }
        }
    });
    let _: Either<_, ((), _)> = select(serving, reloading).await;
    storage.close().await?;
    Ok(())
}

/// `--hash-password USER`: the password is the configuration, a line; what is printed belongs into one.
fn hash_password(image: &Image, user: &str) -> Result<(), Failure> {
    let password = image.bundle().file("caldav.toml").unwrap_or_default();
    let password = std::str::from_utf8(password)?.trim_end_matches(['\r', '\n']);
    let table = configuration::user_table(user, password, &**image.entropy())
        .map_err(|_| "not enough memory: --memory=16 is")??;
    image.print(table.trim_end());
    Ok(())
}
