//! Both parties in one process, joined by a pipe in memory: `cargo run --release --example in_process`.

use lowkey::{Client, Model, Server};

#[tokio::main]
async fn main() -> lowkey::Result<()> {
    let model = Model::open("digits")?;
    let demo = model.demo().expect("digits come with it");
    let server = Server::builder(model).build().await?;

    let (here, there) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(there).await }
    });
    // The name is that under which a client with a state folder would know the server's digest.
    let mut client = Client::builder().digest(server.digest()).over(here, "in process").await?;

    client.prepare(3).await?; // what does not depend on the images
    for (image, label) in demo.inputs.iter().zip(&demo.labels).take(3) {
        let answer = client.infer(&image).await?;
        let (class, online) = (answer.class.expect("ten classes"), answer.report.online);
        println!("a {label}, answered {class} with {} bytes in {:.1} ms", online.bytes(), online.ms);
    }
    client.close().await?;
    let report = serving.await.expect("no panic")?;
    println!("the server saw {} inferences, and none of the images", report.inferences);
    Ok(())
}
