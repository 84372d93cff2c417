//! What both parties send in a training: a small network of dense layers, steps on samples in the clear, weights opened to both.

use lowkey::train::{Contribution, Net, Receivers, Samples, Settings, Wish, input, train_seeded};
use lowkey_models::Inputs;

use super::Row;
use super::sessions::sent;

/// Images of 3 x 3 pixels, one of them bright, in the form of MNIST.
fn samples(net: &Net, count: usize) -> Samples {
    let labels: Vec<u8> = (0..count).map(|i| (i * 7 % 10) as u8).collect();
    let pixel = |i: usize, at: usize| if at == usize::from(labels[i]) { 240 } else { (i * 31 + at * 17) % 60 };
    let mut idx = [0x0803, count as u32, 3, 3].map(u32::to_be_bytes).as_flattened().to_vec();
    idx.extend((0..count).flat_map(|i| (0..9).map(move |at| pixel(i, at) as u8)));
    Samples::new(net, &Inputs::from_bytes(&idx, &input(net)).unwrap(), &labels).unwrap()
}

pub fn rows() -> Vec<Row> {
    let net = Net::new(&[9, 12, 10]).unwrap();
    let both = Contribution::ModelAndData(None, samples(&net, 130));
    vec![
        row("training 9-12-10", &net, Contribution::Model(None), 3),
        row("training 9-12-10, samples of both", &net, both, 4),
    ]
}

/// Of a training of so many steps on 384 samples of the client, and on those of the server.
fn row(name: &str, net: &Net, server: Contribution, steps: u64) -> Row {
    let settings = || {
        let wish = Wish::new(net.clone());
        Settings::new(Wish {
            weights_to: Receivers::Both,
            epochs: Some(1),
            rates: Some(vec![3]),
            every: Some(0),
            ..wish
        })
    };
    let sent = sent(async |here, there| {
        let server = tokio::spawn(train_seeded(*there, server, settings(), [3; 32]));
        let client = train_seeded(*here, Contribution::Data(samples(net, 384)), settings(), [4; 32]).await.unwrap();
        let server = server.await.unwrap().unwrap();
        assert_eq!([client.steps, server.steps], [steps; 2]);
        // Both have the same weights: what is summed up is a training that works.
        let [own, theirs] = [client, server].map(|trained| trained.network.unwrap().to_bytes().unwrap());
        assert!(own == theirs);
    });
    Row::new(name, ["client", "server"], sent)
}
