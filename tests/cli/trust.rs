//! TLS with an authority or a pin, plain TCP where nobody else can listen, and everything in between.

use super::*;

#[test]
fn tls_with_a_pin_or_an_authority() {
    let folder = tempfile::tempdir().unwrap();
    let npy = digits().npy(folder.path(), 0..1);
    let input = ["--input", text(&npy), "--json"];
    let (own, other) = (Identity::make(), Identity::make());
    let mut server = own.serve();
    let pin = server.pin.clone().unwrap();
    let exact = |ran: Ran| assert_eq!(integers(&ran.records()[0]["logits"]), digits().logits(0));

    exact(server.infer(&[&input[..], &["--pin", &pin]].concat()));
    let wrong = "ab".repeat(32);
    let refusal = server.infer(&[&input[..], &["--pin", &wrong]].concat()).fails(4, &wrong, "--pin");
    assert!(refusal.err.contains(&pin), "both pins are named:\n{}", refusal.err);
    server.infer(&[&input[..], &["--ca", &own.file("cert.pem")]].concat()).fails(4, "127.0.0.1", "--ca");

    // The certificate is for a name.
    let port = server.address.rsplit_once(':').unwrap().1;
    server.address = format!("localhost:{port}");
    exact(server.infer(&[&input[..], &["--ca", &own.file("cert.pem")]].concat()));
    server.infer(&[&input[..], &["--ca", &other.file("cert.pem")]].concat()).fails(
        4,
        "no authority that is trusted",
        "--ca",
    );
    server.infer(&[&input[..], &["--ca", &own.file("key.pem")]].concat()).fails(
        2,
        "no certificate in it",
        "BEGIN CERTIFICATE",
    );
    server.infer(&[&input[..], &["--ca", "/nowhere/ca.pem"]].concat()).fails(2, "/nowhere/ca.pem", "path");
    let both = server.infer(&[&input[..], &["--ca", &own.file("cert.pem"), "--pin", &pin]].concat());
    assert_eq!(both.code, Some(2));
    assert!(both.err.contains("cannot be used with"), "{}", both.err);
}

#[test]
fn one_end_with_tls_and_the_other_without() {
    let folder = tempfile::tempdir().unwrap();
    let npy = digits().npy(folder.path(), 0..1);
    let secure = Identity::make().serve();
    secure.infer(&["--input", text(&npy)]).fails(3, "", "TLS");
    let plain = Serving::digits(&[]);
    plain.infer(&["--input", text(&npy), "--pin", &"ab".repeat(32)]).fails(3, "TLS", "--cert");
    // Neither server minds.
    let pin = secure.pin.clone().unwrap();
    secure.infer(&["--input", text(&npy), "--pin", &pin]).prints();
    plain.infer(&["--input", text(&npy)]).prints();
}

#[test]
fn servers_that_others_could_reach() {
    let serve = ["serve", "--model", "digits", "--listen", "0.0.0.0:0"];
    lowkey(&serve).fails(4, "0.0.0.0:0 can be reached by others", "openssl req");
    let identity = Identity::make();
    let (cert, key) = (identity.file("cert.pem"), identity.file("key.pem"));
    let missing = lowkey(&[&serve[..], &["--cert", &cert]].concat());
    assert_eq!(missing.code, Some(2));
    assert!(missing.err.contains("--key <FILE>"), "{}", missing.err);
    lowkey(&[&serve[..], &["--cert", &key, "--key", &cert]].concat()).fails(
        2,
        "no certificate in it",
        "BEGIN CERTIFICATE",
    );
    lowkey(&[&serve[..], &["--cert", &cert, "--key", &cert]].concat()).fails(
        2,
        "no private key in it",
        "BEGIN PRIVATE KEY",
    );
    let foreign = Identity::make();
    lowkey(&[&serve[..], &["--cert", &cert, "--key", &foreign.file("key.pem")]].concat()).fails(
        2,
        "does not belong to the certificate",
        "",
    );
    lowkey(&[&serve[..], &["--cert", &cert, "--key", "/nowhere/key.pem"]].concat()).fails(
        2,
        "/nowhere/key.pem",
        "path",
    );

    let mut server = Serving::start(&["--model", "digits", "--listen", "0.0.0.0:0", "--insecure"]);
    let folder = tempfile::tempdir().unwrap();
    let npy = digits().npy(folder.path(), 0..1);
    let input = ["--input", text(&npy), "--json"];
    server.infer(&input).fails(4, "nothing says how to recognise the server", "--pin");
    let risky = server.infer(&[&input[..], &["--insecure"]].concat());
    assert!(risky.err.starts_with("warning: plain TCP: anyone on the way"), "{}", risky.err);
    assert_eq!((risky.code, risky.out.lines().count()), (Some(0), 1));
    // The same server by its loopback address needs no such thing.
    server.address = server.address.replace("0.0.0.0", "127.0.0.1");
    server.infer(&input).records();
    assert!(server.stop().starts_with("warning: plain TCP"));
}
