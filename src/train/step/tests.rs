use super::*;
use crate::train::batch::Batch;
use crate::train::format::{Format, Net};
use crate::train::lattice::Lattice;
use crate::train::matrix::multiply;
use crate::train::plan::{Aim, Known, Product};
use crate::train::session::{Opening, agree};
use crate::train::twin::{State, Twin};
use lowkey_bridge::product::Answers;
use lowkey_mpc::channel::{FrameKind, HEADER_BYTES};
use lowkey_mpc::party::Stage;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeMap;

/// Products by an ideal functionality: the client's shares are opened to the server, which plays the dealer. It hides nothing.
#[derive(Debug)]
struct Open {
    party: Party,
    rng: ChaCha20Rng,
}

/// Bytes of the ideal products of a step.
fn open_bytes(plan: &StepPlan) -> usize {
    let words = |p: &Product| (p.rows + p.columns) * p.inner + p.crosses() * p.outputs();
    2 * Opening::BYTES + 8 * plan.products().iter().map(words).sum::<usize>()
}

impl Open {
    async fn send(&mut self, channel: &mut Channel, words: &[u64]) -> Result<()> {
        Ok(channel.send(FrameKind::Data, words.iter().flat_map(|word| word.to_le_bytes()).collect()).await?)
    }

    async fn receive(&mut self, channel: &mut Channel, count: usize) -> Result<Vec<u64>> {
        let bytes = channel.recv(FrameKind::Data, count * 8).await?;
        Ok(bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect())
    }
}

impl Products for Open {
    async fn begin(&mut self, channel: &mut Channel, _: Party, opening: Opening) -> Result<()> {
        opening.send(channel).await?;
        opening.compare(channel).await
    }

    fn end(&mut self) {}

    async fn terms(&mut self, channel: &mut Channel, product: Product, left: &[u64], right: &[u64]) -> Result<Terms> {
        let Product { rows, inner, columns, ell, .. } = product;
        assert_eq!((left.len(), right.len()), (rows * inner, inner * columns), "{product:?}");
        let [own, guarded] = [Ring::plain, Ring::guarded].map(|ring| ring(ell.into()));
        let local = RingShare::new(multiply(left, right, inner, columns), own);
        let mut crosses = Vec::new();
        if self.party == Party::Client {
            self.send(channel, &[left, right].concat()).await?;
            for _ in 0..product.crosses() {
                crosses.push(RingShare::new(self.receive(channel, product.outputs()).await?, guarded));
            }
            return Ok(Terms { local, crosses });
        }
        let theirs = self.receive(channel, left.len() + right.len()).await?;
        let (their_left, their_right) = theirs.split_at(left.len());
        let mut crosses_of = vec![(their_left, right), (left, their_right)];
        if let Some(Known { to, most }) = product.known {
            let [known, zeros] = if to == Party::Client { [their_left, left] } else { [left, their_left] };
            let largest = known.iter().map(|x| x.cast_signed().unsigned_abs()).max();
            assert!(zeros.iter().all(|x| *x == 0) && largest <= Some(most.into()), "inputs are the {to}'s");
            crosses_of.remove(if to == Party::Client { 1 } else { 0 });
        }
        for (left, right) in crosses_of {
            let z = multiply(left, right, inner, columns);
            let c: Vec<u64> = z.iter().map(|_| self.rng.next_u64()).collect();
            let noisy = |z: u64, bit: u64| 2 * (z & ((1 << ell) - 1)) + (bit & 1);
            let v: Vec<u64> = z.iter().zip(&c).map(|(z, c)| noisy(*z, self.rng.next_u64()).wrapping_sub(*c)).collect();
            self.send(channel, &c).await?;
            crosses.push(RingShare::new(v, guarded));
        }
        Ok(Terms { local, crosses })
    }
}

struct Session<P> {
    trainer: Trainer<P>,
    channel: Channel,
    correlations: Correlations,
}

async fn sessions<P: Products>(
    net: &Net,
    masters: &[Vec<i64>],
    products: impl Fn(Party, &Agreed) -> P,
    seed: u64,
) -> [Session<P>; 2] {
    let (mut client, mut server) = Channel::pair();
    let (mut c, mut s) = (ChaCha20Rng::seed_from_u64(seed + 1), ChaCha20Rng::seed_from_u64(seed + 2));
    let both = tokio::join!(Correlations::setup(&mut client, &mut c), Correlations::setup(&mut server, &mut s));
    let agreed = tokio::join!(
        agree(&mut client, Party::Client, net, &Format::NARROW, None, &[0; 32], [1; 32]),
        agree(&mut server, Party::Server, net, &Format::NARROW, None, &[0; 32], [2; 32])
    );
    let session = |party, masters, channel, correlations, agreed: Agreed| {
        let (held, products) =
            (WeightShares::first(party, net, &Format::NARROW, masters, &agreed), products(party, &agreed));
        Session { trainer: Trainer::new(party, agreed, products, held).unwrap(), channel, correlations }
    };
    [
        session(Party::Client, None, client, both.0.unwrap(), agreed.0.unwrap()),
        session(Party::Server, Some(masters), server, both.1.unwrap(), agreed.1.unwrap()),
    ]
}

fn plan(net: &Net, rate: u8) -> StepPlan {
    plan_of(net, rate, Party::Client)
}

fn plan_of(net: &Net, rate: u8, owner: Party) -> StepPlan {
    let aim = Aim { coins: true, score: true, evaluates: false };
    StepPlan::new(net, Format::NARROW, rate, owner, [8, 40], aim).unwrap()
}

const PARTIES: [Party; 2] = [Party::Client, Party::Server];

/// Lattices for steps on samples of either party.
fn lattice(plans: &[StepPlan], answers: Answers, party: Party, agreed: &Agreed, seed: u64) -> Lattice<ChaCha20Rng> {
    let rng = ChaCha20Rng::seed_from_u64(seed + if party == Party::Client { 3 } else { 4 });
    let plans: Vec<_> = plans.iter().map(|plan| (plan, answers)).collect();
    Lattice::new(&plans, party, agreed, rng).unwrap()
}

/// What the parties give of a batch, and of its shares where it has some.
fn given<'a>(plan: &StepPlan, batch: Batch<'a>, shares: &'a [RingShare; 2]) -> [Given<'a>; 2] {
    let mut given = match plan.net.known_to(0, plan.owner) {
        None => [Given::Shares(&shares[0], Some(batch.labels())), Given::Shares(&shares[1], None)],
        Some(_) => [Given::Batch(batch), Given::Nothing],
    };
    if plan.owner == Party::Server {
        given.reverse();
    }
    given
}

/// Sums of coins less their means, and variances of these sums, by site.
type Sums = BTreeMap<Site, [f64; 2]>;

/// Adds the coins of a step, and checks that those of every site so far sum up to what uniform ones would, within five deviations: nothing
/// is left in that pushes all values one way.
fn check_mean(plan: &StepPlan, coins: &Recorded, sums: &mut Sums) {
    let softmax = plan.format.softmax(&plan.net);
    for (site, coins) in coins.sites() {
        let spec = match site.value {
            Value::Weight => plan.weight(),
            Value::Output => plan.truncation(site.layer, Kind::Forward),
            Value::Difference => softmax.grid(),
            Value::Sum => softmax.sum(),
            Value::Probability => softmax.product(),
            Value::Update => plan.truncation(site.layer, Kind::Update),
            Value::Gradient => plan.truncation(site.layer, Kind::Back),
            Value::Decay => plan.decay(),
            Value::Feature | Value::Game => unreachable!("not rounded in a step"),
        };
        let size = f64::from(1 << spec.dropped);
        let [sum, variance] = sums.entry(site).or_default();
        *sum += coins.iter().map(|coin| (*coin as f64 + 0.5) / size - 0.5).sum::<f64>();
        *variance += coins.len() as f64 * (1.0 - 1.0 / (size * size)) / 12.0;
        assert!(sum.abs() < 5.0 * variance.sqrt(), "{site:?}: {sum} is {} deviations", *sum / variance.sqrt());
    }
}

/// Steps on shares and in the clear, on batches of either party by turns, with the coins of the shares: masters and momenta are equal after each
/// step, and the bytes those of the plan, with `bytes` those of its products.
async fn repeats<P: Products>(
    net: Net,
    products: impl Fn(Party, &Agreed) -> P,
    bytes: impl Fn(&StepPlan) -> usize,
    steps: usize,
    seed: u64,
) {
    let format = Format::NARROW;
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut layer = |i| {
        let wide = u8::from(net.inputs(i) > 200);
        (0..net.weights(i)).map(|_| ((rng.next_u64() % 2048) as i64 - 1024) >> wide).collect()
    };
    let masters: Vec<Vec<i64>> = (0..net.layers()).map(&mut layer).collect();
    let [mut client, mut server] = sessions(&net, &masters, products, seed).await;
    let mut twin = Twin::new(net.clone(), format, State::new(&net, masters));
    let mut sums = Sums::new();
    for step in 0..steps {
        // The rate changes on the way.
        let rate = if step < steps / 2 { 3 } else { 5 };
        let plan = plan_of(&net, rate, PARTIES[step % 2]);
        let most = net.most_input(&format) + 1;
        let mut pixel = || {
            if rng.next_u64() % 5 == 0 { (rng.next_u64() % most) as i64 } else { 0 }
        };
        let inputs: Vec<i64> = (0..net.rows(0) * net.inputs(0)).map(|_| pixel()).collect();
        let labels: Vec<u8> = (0..BATCH).map(|_| (rng.next_u64() % 10) as u8).collect();
        let batch = Batch::new(&net, &format, &inputs, &labels).unwrap();
        let own: Vec<u64> = inputs.iter().map(|_| rng.next_u64()).collect();
        let theirs: Vec<u64> = inputs.iter().zip(&own).map(|(x, c)| x.cast_unsigned().wrapping_sub(*c)).collect();
        let shares = [own, theirs].map(|words| RingShare::new(words, Ring::plain(format.operand().into())));
        let [of_client, of_server] = given(&plan, batch, &shares);

        let mut coins = Recorded::default();
        let before = client.channel.traffic();
        for session in [&mut client, &mut server] {
            session.channel.enter(Stage::Offline);
        }
        let need = plan.cost().ots;
        let both = tokio::join!(
            client.correlations.ensure(&mut client.channel, need),
            server.correlations.ensure(&mut server.channel, need)
        );
        both.0.and(both.1).unwrap();
        for session in [&mut client, &mut server] {
            session.channel.enter(Stage::Online);
        }
        let both = tokio::join!(
            client.trainer.step(&plan, &mut client.channel, &mut client.correlations, of_client, Some(&mut coins)),
            server.trainer.step(&plan, &mut server.channel, &mut server.correlations, of_server, None)
        );
        both.0.and(both.1).unwrap();

        check_mean(&plan, &coins, &mut sums);
        twin.step(batch, rate, &mut coins);
        assert!(coins.is_empty());
        assert_eq!(twin.watch.overflows(), 0, "{:?}", twin.watch);
        // With the coins of shares, roundings add nothing in the mean.
        for (site, (sum, variance)) in &twin.watch.errors {
            assert!((*sum as f64).abs() <= 5.0 * variance.sqrt(), "{site:?}: {sum}, of the variance {variance}");
        }
        let got = client.trainer.held().unwrap().sum(server.trainer.held().unwrap());
        assert!(got == twin.state, "{net:?}: masters or momenta differ after step {step}, seed {seed}");
        let tally = client.trainer.take_tally().sum(&server.trainer.take_tally());
        let (score, wanted) = (tally.score(), twin.take_score());
        assert_eq!((score, score.samples), (wanted, BATCH as u64), "{net:?}, step {step}, seed {seed}");

        let online = client.channel.traffic().since(&before).stage(Stage::Online).total();
        let frames = (online.frames_sent + online.frames_received) as usize;
        assert_eq!(online.bytes() as usize, plan.cost().bytes() + bytes(&plan) + frames * HEADER_BYTES);
    }
}

/// Batches of an evaluation on shares and in the clear, the last of them not full: the score is that of the twin, masters and momenta stay
/// what they are, and the bytes are those of the plan.
async fn evaluates(net: Net, answers: Answers, seed: u64) {
    let (format, aim) = (Format::NARROW, Aim { evaluates: true, score: true, coins: true });
    let plans = PARTIES.map(|owner| StepPlan::new(&net, format, 4, owner, [8, 40], aim).unwrap());
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut layer = |i| (0..net.weights(i)).map(|_| (rng.next_u64() % 4096) as i64 - 2048).collect();
    let masters: Vec<Vec<i64>> = (0..net.layers()).map(&mut layer).collect();
    let lattice = |party, agreed: &Agreed| lattice(&plans, answers, party, agreed, seed);
    let [mut client, mut server] = sessions(&net, &masters, lattice, seed).await;
    let mut twin = Twin::new(net.clone(), format, State::new(&net, masters));
    for (step, (owner, counted)) in (0..).zip([(0, BATCH), (1, 90), (0, 37)]) {
        let plan = &plans[owner];
        let need = plan.cost().ots;
        let inputs: Vec<i64> = (0..net.rows(0) * net.inputs(0)).map(|_| (rng.next_u64() % 17) as i64).collect();
        let labels: Vec<u8> = (0..BATCH).map(|_| (rng.next_u64() % 10) as u8).collect();
        let batch = Batch::new(&net, &format, &inputs, &labels).unwrap();
        let mut coins = Recorded::default();
        let both = tokio::join!(
            client.correlations.ensure(&mut client.channel, need),
            server.correlations.ensure(&mut server.channel, need)
        );
        both.0.and(both.1).unwrap();
        let before = client.channel.traffic();
        let numbered = Numbered { step, counted };
        let [c, s] = [&mut client, &mut server];
        let none = [(); 2].map(|()| RingShare::none());
        let [of_client, of_server] = given(plan, batch, &none);
        let both = tokio::join!(
            c.trainer.evaluate(numbered, plan, &mut c.channel, &mut c.correlations, of_client, Some(&mut coins)),
            s.trainer.evaluate(numbered, plan, &mut s.channel, &mut s.correlations, of_server, None)
        );
        both.0.and(both.1).unwrap();
        twin.evaluate(batch, counted, &mut coins);
        assert!(coins.is_empty() && twin.watch.overflows() == 0);
        let traffic = client.channel.traffic().since(&before).total();
        let frames = (traffic.frames_sent + traffic.frames_received) as usize;
        let bytes = plan.cost().bytes() + plan.product_cost(answers).unwrap().bytes() + frames * HEADER_BYTES;
        assert_eq!(traffic.bytes() as usize, bytes);
    }
    let score = client.trainer.take_tally().sum(&server.trainer.take_tally()).score();
    assert_eq!((score, score.samples), (twin.take_score(), BATCH as u64 + 127));
    assert!(score.right > 0 && score.right < score.samples && score.loss > 1.0, "{score:?}");
    let held = [&client, &server].map(|session| session.trainer.held().unwrap());
    assert_eq!((held[0].done(), held[1].done()), (0, 0));
    assert!(held[0].sum(held[1]) == twin.state);
}

#[tokio::test]
async fn evaluations_equal_the_twin() {
    evaluates(Net::new(&[12, 8, 6, 10]).unwrap(), Answers::Plain, 31).await;
    evaluates(Net::head(64).unwrap(), Answers::Merged, 32).await;
    evaluates(Net::pools(), Answers::Merged, 33).await;
}

fn open(party: Party, seed: u64) -> Open {
    Open { party, rng: ChaCha20Rng::seed_from_u64(seed + 3) }
}

async fn ideally(net: Net, steps: usize, seed: u64) {
    repeats(net, |party, _| open(party, seed), open_bytes, steps, seed).await;
}

async fn on_lattices(net: Net, answers: Answers, steps: usize, seed: u64) {
    let plans = PARTIES.map(|owner| plan_of(&net, 4, owner));
    let lattice = |party, agreed: &Agreed| lattice(&plans, answers, party, agreed, seed);
    repeats(net, lattice, |plan| plan.product_cost(answers).unwrap().bytes(), steps, seed).await;
}

/// Sessions of a small network, with ideal products.
async fn small(seed: u64) -> (Net, [Session<Open>; 2]) {
    let net = Net::head(6).unwrap();
    let masters = vec![vec![100; net.weights(0)]];
    let sessions = sessions(&net, &masters, |party, _| open(party, seed), seed).await;
    (net, sessions)
}

/// A step of both, and what came of it at the client and at the server.
async fn step_both([client, server]: &mut [Session<Open>; 2], net: &Net, plans: [&StepPlan; 2]) -> [Result<()>; 2] {
    let (inputs, labels) = (vec![3; net.rows(0) * net.inputs(0)], vec![1; BATCH]);
    let batch = Batch::new(net, &Format::NARROW, &inputs, &labels).unwrap();
    let both = tokio::join!(
        client.trainer.step(plans[0], &mut client.channel, &mut client.correlations, Some(batch), None),
        server.trainer.step(plans[1], &mut server.channel, &mut server.correlations, None, None)
    );
    [both.0, both.1]
}

fn is_protocol(result: &Result<()>) -> bool {
    matches!(result, Err(StepError::Protocol(lowkey_mpc::error::Error::Protocol { .. })))
}

/// Parties that mean different steps, rates or programs are told so before anything is multiplied; what follows has no shares.
#[tokio::test]
async fn another_step_is_refused() {
    let net = Net::head(6).unwrap();
    let [one, rate] = [4, 5].map(|rate| plan(&net, rate));
    let flights = StepPlan { flights: [8, 30], ..one.clone() };
    let owner = StepPlan { owner: Party::Server, ..one.clone() };
    for (ahead, server) in [(1, &one), (0, &rate), (0, &flights), (0, &owner)] {
        let (net, mut both) = small(7).await;
        both[1].trainer.held.as_mut().unwrap().done += ahead;
        for result in step_both(&mut both, &net, [&one, server]).await {
            assert!(is_protocol(&result), "{result:?}");
        }
        for result in step_both(&mut both, &net, [&one, &one]).await {
            assert!(matches!(result, Err(StepError::Lost)), "{result:?}");
        }
        assert!(matches!(both[0].trainer.held(), Err(StepError::Lost)));
    }
}

/// A peer that goes away in mid-step: the step fails, and so do those that follow, without a panic.
#[tokio::test]
async fn a_step_after_a_failed_one_is_an_error() {
    let (net, [mut client, mut server]) = small(8).await;
    let plan = plan(&net, 4);
    let (inputs, labels) = (vec![3; net.rows(0) * net.inputs(0)], vec![1; BATCH]);
    let batch = Batch::new(&net, &Format::NARROW, &inputs, &labels).unwrap();
    let leave = async {
        let opening = server.trainer.agreed.opening(&plan, 0);
        server.trainer.products.begin(&mut server.channel, plan.owner, opening).await.unwrap();
        server.correlations.ensure(&mut server.channel, plan.cost().ots).await.unwrap();
        drop(server);
    };
    let step = client.trainer.step(&plan, &mut client.channel, &mut client.correlations, Some(batch), None);
    let (result, ()) = tokio::join!(step, leave);
    assert!(matches!(result, Err(StepError::Protocol(_))), "{result:?}");
    let again = client.trainer.step(&plan, &mut client.channel, &mut client.correlations, Some(batch), None).await;
    assert!(matches!(again, Err(StepError::Lost)), "{again:?}");
}

/// A session goes on from checkpoints; other shares than those it was agreed on for are refused.
#[tokio::test]
async fn goes_on_from_a_checkpoint() {
    let (net, mut both) = small(9).await;
    let (plan, width) = (plan(&net, 4), Format::NARROW.held);
    let again =
        |session: &Session<Open>| WeightShares::decode(&net, width, &session.trainer.held().unwrap().encode()).unwrap();
    let first = both.each_ref().map(again);
    for result in step_both(&mut both, &net, [&plan, &plan]).await {
        result.unwrap();
    }
    let kept = both.each_ref().map(again);
    assert_eq!(kept.each_ref().map(WeightShares::done), [1, 1]);
    let mut histories = Vec::new();
    for (pair, sound) in [([&kept[0], &kept[1]], true), ([&first[0], &kept[1]], false), ([&first[0], &first[1]], true)]
    {
        let [client, server] = &mut both;
        let agreed = tokio::join!(
            agree(
                &mut client.channel,
                Party::Client,
                &net,
                &Format::NARROW,
                Some(pair[0].moment()),
                &[0; 32],
                [3 + pair[0].done() as u8; 32]
            ),
            agree(&mut server.channel, Party::Server, &net, &Format::NARROW, Some(pair[1].moment()), &[0; 32], [4; 32])
        );
        assert_eq!((agreed.0.is_ok(), agreed.1.is_ok()), (sound, sound));
        let (Ok(own), Ok(theirs)) = agreed else { continue };
        let other = if pair[0].done() == 1 { &first[0] } else { &kept[0] };
        client.trainer = Trainer::new(Party::Client, own, open(Party::Client, 1), pair[0].clone()).unwrap();
        let refused = Trainer::new(Party::Server, theirs, open(Party::Server, 1), other.clone());
        assert!(matches!(refused, Err(StepError::OtherShares)));
        histories.push(client.trainer.held().unwrap().history);
    }
    assert_ne!(histories[0], histories[1]);
}

#[tokio::test]
async fn steps_with_ideal_products_equal_the_twin() {
    ideally(Net::new(&[12, 8, 6, 10]).unwrap(), 4, 1).await;
    ideally(Net::a(), 2, 3).await;
}

/// Convolutions on shares, and pools of several sizes.
#[tokio::test]
async fn steps_of_convolutions_and_pools_equal_the_twin() {
    ideally(Net::pools(), 4, 21).await;
    on_lattices(Net::pools(), Answers::Merged, 2, 22).await;
    on_lattices(Net::pools(), Answers::Plain, 1, 23).await;
}

/// Its first product has more than 2^20 outputs, all of which are rounded: what that adds is zero in the mean.
#[tokio::test]
#[ignore = "minutes"]
async fn a_step_of_c_equals_the_twin() {
    assert!(plan(&Net::c(), 4).product(0, Kind::Forward).outputs() > 1 << 20);
    on_lattices(Net::c(), Answers::Merged, 1, 24).await;
}

#[tokio::test]
async fn steps_of_small_networks_equal_the_twin() {
    on_lattices(Net::new(&[12, 8, 6, 10]).unwrap(), Answers::Plain, 4, 1).await;
    on_lattices(Net::head(64).unwrap(), Answers::Merged, 4, 2).await;
}

/// Features of the client's samples, of which both parties have shares, so that every product has two cross terms; and of the server's own.
#[tokio::test]
async fn steps_on_shared_features_equal_the_twin() {
    ideally(Net::on_features(64), 4, 11).await;
    on_lattices(Net::on_features(64), Answers::Merged, 2, 12).await;
    on_lattices(Net::on_features(64), Answers::Plain, 2, 13).await;
}

#[tokio::test]
async fn steps_of_a_equal_the_twin() {
    on_lattices(Net::a(), Answers::Merged, 2, 3).await;
}

#[tokio::test]
async fn a_step_of_d_equals_the_twin() {
    on_lattices(Net::d(), Answers::Plain, 1, 5).await;
}

#[tokio::test]
#[ignore = "minutes"]
async fn twenty_steps_of_d_equal_the_twin() {
    on_lattices(Net::d(), Answers::Plain, 20, 6).await;
}

#[tokio::test]
#[ignore = "minutes"]
async fn fifty_steps_of_a_equal_the_twin() {
    on_lattices(Net::a(), Answers::Merged, 50, 4).await;
}

#[test]
fn equality_of_labels() {
    for (label, class) in (0..=255).flat_map(|label| (0..=255).map(move |class| (label, class))) {
        assert_eq!(is_equal(label, class), u64::from(label == class));
    }
}
