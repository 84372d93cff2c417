//! From an ONNX file to a private answer: `cargo run --release --example onnx_to_answer`.

use lowkey::models::zoo;
use lowkey::{Client, Model, Server};

#[tokio::main]
async fn main() -> lowkey::Result<()> {
    // A network of PyTorch's kind, quantised by ONNX Runtime; `examples/digits.py` makes it.
    let model = Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/digits.onnx"))?;
    println!("reads   {}\nanswers {}", model.input_line(), model.output_line());
    let server = Server::builder(model.clone()).bind("127.0.0.1:0").await?;
    tokio::spawn(server.clone().run());

    // An image as the file's own runtime would be given it: real numbers. Its pixels are 0..=15.
    let digits = zoo::find("digits").and_then(|digits| digits.demo()).expect("it is bundled");
    let pixels = digits.inputs.stored().nth(321).expect("360 of them");
    let image: Vec<f32> = pixels.iter().map(|&pixel| f32::from(pixel) / 15.0).collect();

    let mut client = Client::connect(server.address().expect("bound")).await?;
    let answer = client.infer(&image).await?;
    let (class, ms) = (answer.class.expect("it tells classes apart"), answer.report.online.ms);
    println!("a {}, of probability {:.3}, in {ms:.1} ms", class, answer.scores.as_ref().expect("a softmax")[class]);
    assert_eq!(answer.logits, model.answer(&image)?.logits, "a private answer is the one in the clear");
    client.close().await
}
