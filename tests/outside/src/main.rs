//! A private answer, by a crate that depends on `lowkey` alone.

use lowkey::Model;
use lowkey::blocking::{Client, Server};

fn main() -> lowkey::Result<()> {
    let model = Model::open("digits")?;
    let image = model.demo().expect("digits come with it").inputs.get(7).expect("360 of them");
    let expected = model.answer(&image)?;

    let server = Server::builder(model).bind("127.0.0.1:0")?;
    let running = std::thread::spawn({
        let server = server.clone();
        move || server.run()
    });
    let mut client = Client::connect(server.address().expect("bound"))?;
    let answer = client.infer(&image)?;
    println!("class {:?} in {:.1} ms", answer.class, answer.report.online.ms);
    assert_eq!((answer.class, answer.logits), (expected.class, expected.logits));
    client.close()?;
    server.shutdown();
    running.join().expect("no panic")
}
