package test;

import java.net.URI;
import java.util.Map;
import org.springframework.vault.authentication.AppRoleAuthentication;
import org.springframework.vault.authentication.AppRoleAuthenticationOptions;
import org.springframework.vault.authentication.SimpleSessionManager;
import org.springframework.vault.authentication.TokenAuthentication;
import org.springframework.vault.client.VaultClients;
import org.springframework.vault.client.VaultEndpoint;
import org.springframework.vault.core.VaultKeyValueOperationsSupport.KeyValueBackend;
import org.springframework.vault.core.VaultTemplate;
import org.springframework.http.client.SimpleClientHttpRequestFactory;

/** Reads and writes a secret, and encrypts, by Spring Vault; arguments: address, token, path, transit key. */
public final class ReadSecret {
  private ReadSecret() {}

  public static void main(String[] arguments) {
    var endpoint = VaultEndpoint.from(URI.create(arguments[0]));
    var byToken = new VaultTemplate(endpoint, new TokenAuthentication(arguments[1]));
    var kv = byToken.opsForKeyValue("secret", KeyValueBackend.KV_2);
    kv.put(arguments[2], Map.of("username", "app"));
    var read = kv.get(arguments[2]).getRequiredData();
    var transit = byToken.opsForTransit("transit");
    transit.createKey(arguments[3]);
    var opened = transit.decrypt(arguments[3], transit.encrypt(arguments[3], "plaintext"));

    var requests = new SimpleClientHttpRequestFactory();
    var operations = VaultClients.createRestTemplate(endpoint, requests);
    var credentials = arguments[1].split("\\.");
    var role = AppRoleAuthenticationOptions.builder()
        .roleId(AppRoleAuthenticationOptions.RoleId.provided(credentials[0]))
        .secretId(AppRoleAuthenticationOptions.SecretId.provided(credentials[1]))
        .build();
    var byRole = new VaultTemplate(endpoint, requests, new SimpleSessionManager(new AppRoleAuthentication(role, operations)));
    var again = byRole.opsForKeyValue("secret", KeyValueBackend.KV_2).get(arguments[2]).getRequiredData();
    System.out.println(read.get("username") + " " + opened + " " + again.get("username"));
  }
}
