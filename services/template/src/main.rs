#![forbid(unsafe_code)]
//! The template service: its parts, wired to the devices of an image.

use std::rc::Rc;

use platform::http::{Body, Limits, Request, Server};
use platform::image::{Failure, Image};
use template::{Configuration, answer};

/// Where it listens.
const PORT: u16 = 80;

/// Connections that may wait to be accepted.
const BACKLOG: usize = 256;

platform::image!(include_str!("../image.toml"), serve);

async fn serve(mut image: Image) -> Result<(), Failure> {
    let configuration: Rc<Configuration> = Rc::new(image.configuration()?);
    let stack = image.network("service")?;
    let listener = stack.listen(PORT, BACKLOG)?;
    let server = Server::new(image.handle(), Limits::default(), move |request: Request<Body>, _peer| {
        let response = answer(&configuration, request.method(), request.uri().path());
        async { response }
    });

    stack.ready().await;
    let addresses: Vec<_> = stack.addresses().iter().map(|assigned| assigned.cidr.to_string()).collect();
    image.ready(&format!("http on port {PORT} at {}", addresses.join(" ")));
    server.serve(listener, image.shutdown()).await;
    Ok(())
}
