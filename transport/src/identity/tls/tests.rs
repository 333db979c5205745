use proptest::prelude::*;
use rustls::{ClientConnection, ServerConnection};

use super::*;

fn key(byte: u8) -> NodeKey {
    NodeKey::from_seed(&[byte; 32]).unwrap()
}

/// Lets both sides talk in memory until nobody has anything to say.
fn shake_hands(
    client: ClientConfig,
    server: ServerConfig,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.wants_write() || server.wants_write() {
        let mut sent = Vec::new();
        client.write_tls(&mut sent).unwrap();
        server.read_tls(&mut sent.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut sent = Vec::new();
        server.write_tls(&mut sent).unwrap();
        client.read_tls(&mut sent.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok((client, server))
}

#[test]
fn wire_1_both_sides_know_each_other_by_their_keys_and_nothing_can_be_resumed() {
    let (one, two) = (key(1), key(2));
    let (client, server) =
        shake_hands(one.tls_client().unwrap(), two.tls_server().unwrap(), &server_name(&two.id())).unwrap();
    assert_eq!(peer_of_certificates(client.peer_certificates().unwrap()), Ok(two.id()));
    assert_eq!(peer_of_certificates(server.peer_certificates().unwrap()), Ok(one.id()));
    // WIRE-1
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(client.alpn_protocol(), Some(ALPN));
    assert_eq!(server.server_name(), None);
    assert_eq!(client.tls13_tickets_received(), 0);
    let mut exported = [[0; 32]; 2];
    client.export_keying_material(&mut exported[0], b"EXPORTER-arw", Some(b"x")).unwrap();
    server.export_keying_material(&mut exported[1], b"EXPORTER-arw", Some(b"x")).unwrap();
    assert_eq!(exported[0], exported[1]);
    assert_ne!(exported[0], [0; 32]);
}

#[test]
fn a_server_with_another_key_than_was_dialed_is_refused() {
    // WIRE-2
    let dialed = |name: &str| {
        shake_hands(key(1).tls_client().unwrap(), key(2).tls_server().unwrap(), name).map(|_| ())
    };
    let refused = Err(Error::InvalidCertificate(CertificateError::NotValidForName));
    assert_eq!(dialed(&server_name(&key(3).id())), refused);
    assert_eq!(dialed("127.0.0.1"), refused);
    assert_eq!(dialed("example.arw"), refused);
    assert_eq!(dialed(&format!("x.{}", server_name(&key(2).id()))), refused);
    assert_eq!(dialed(&server_name(&key(2).id())), Ok(()));
}

#[test]
fn a_peer_of_another_protocol_is_refused() {
    let mut other = key(1).tls_client().unwrap();
    other.alpn_protocols = vec![b"arw/2".to_vec()];
    let refused = shake_hands(other, key(2).tls_server().unwrap(), &server_name(&key(2).id())).map(|_| ());
    assert_eq!(refused, Err(Error::NoApplicationProtocol));
}

#[test]
fn a_client_without_a_key_is_refused() {
    let provider = Arc::new(provider());
    let verifier = Arc::new(RawKeyVerifier { algorithms: provider.signature_verification_algorithms });
    let anonymous = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    assert!(shake_hands(anonymous, key(2).tls_server().unwrap(), &server_name(&key(2).id())).is_err());
}

#[test]
fn what_is_no_single_raw_key_names_nobody() {
    assert_eq!(peer_of_certificates(&[]), Err(PeerKeyError::Missing));
    assert_eq!(peer_of_connection(None), Err(PeerKeyError::Missing));
    assert_eq!(peer_of_connection(Some(Box::new(7_u8))), Err(PeerKeyError::Missing));
    let one = CertificateDer::from([PUBLIC_KEY_PREFIX.as_slice(), &[7; 32]].concat());
    assert_eq!(peer_of_certificates(std::slice::from_ref(&one)), Ok(NodeId::from_bytes([7; 32])));
    assert_eq!(peer_of_connection(Some(Box::new(vec![one.clone()]))), Ok(NodeId::from_bytes([7; 32])));
    assert_eq!(peer_of_certificates(&[one.clone(), one]), Err(PeerKeyError::Several { count: 2 }));
}

proptest! {
    #[test]
    fn one_byte_more_or_less_is_no_key(bytes: [u8; 32], extra: u8) {
        let whole = [PUBLIC_KEY_PREFIX.as_slice(), &bytes].concat();
        prop_assert_eq!(node_of_public_key_info(&whole), Ok(NodeId::from_bytes(bytes)));
        prop_assert!(node_of_public_key_info(&whole[..43]).is_err());
        prop_assert!(node_of_public_key_info(&[whole.as_slice(), &[extra]].concat()).is_err());
    }

    #[test]
    fn a_server_name_leads_back_to_its_node(bytes: [u8; 32]) {
        let id = NodeId::from_bytes(bytes);
        let name = ServerName::try_from(server_name(&id)).unwrap();
        prop_assert_eq!(node_of_server_name(&name), Some(id));
    }
}
