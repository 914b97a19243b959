//! Tenants are kept apart: a stranger walks every operation of the API, the gateway, every trigger and AWS' face, and gets
//! nothing, not even whether something is there.
//!
//! All that the tenant `zebra` has is called by its name. The stranger asks for each thing of zebra's, and for one of the
//! same form that never was (`quagg…`): both answers must be the same but for the name. The walk goes over the table of
//! operations, so a new one is walked without a line here.

mod aws;
mod triggers;
mod walk;
mod world;

use rouse_e2e::{OidcProvider, Platform, need};

use self::world::World;

/// One test, in which each part finds the world as the part before left it.
#[tokio::test]
async fn a_stranger_gets_nothing_of_another_tenant_not_even_whether_it_is_there() {
    let test = "a_stranger_gets_nothing_of_another_tenant_not_even_whether_it_is_there";
    let platform = Platform::start();
    need!(platform, test, "python");
    let Some(provider) = OidcProvider::start(test) else { return };
    let world = &Box::pin(World::make(platform, provider)).await;
    walk::is_whole(world).await;
    walk::without_a_key_or_with_a_wrong_one_everything_is_the_same_401(world).await;
    walk::what_is_no_tenants_tells_nothing_of_any_tenant(world).await;
    walk::a_strangers_key_gets_nothing_of_another_tenant_whatever_it_asks_for(world).await;
    walk::within_its_own_tenant_a_stranger_finds_none_of_the_names_of_another(world).await;
    walk::at_its_address_a_closed_function_is_not_there_for_a_stranger(world).await;
    Box::pin(triggers::what_happens_at_one_tenant_rouses_nobody_of_the_other(world)).await;
    aws::a_strangers_access_key_gets_nothing_of_another_tenant_from_any_service(world, test).await;
    walk::is_whole(world).await;
}
