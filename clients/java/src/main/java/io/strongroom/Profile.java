package io.strongroom;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.dataformat.toml.TomlMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.EnumMap;
import java.util.Map;

/**
 * One mesh and one caller, from the profile file that {@code make run} and {@code strongroom profile create} write.
 *
 * @param account the account whose keys are named by their ids
 * @param endpoints the address of each service, {@code host:port}, several joined by commas
 * @param trust PEM: certificate authorities of the mesh; null for the system's
 * @param credentials who calls; null where the profile does not say
 * @param sessionName what events call the caller's sessions, or empty
 */
record Profile(
        String account, Map<Service, String> endpoints, Path trust, Credentials credentials, String sessionName) {
    /** The profile {@code name}; the empty name is {@code $STRONGROOM_PROFILE}, or the current one. */
    static Profile find(String name) {
        return read(path(), name.isEmpty() ? environment("STRONGROOM_PROFILE") : name);
    }

    static Profile read(Path file, String name) {
        JsonNode document;
        try {
            document = new TomlMapper().readTree(Files.readString(file));
        } catch (JsonProcessingException error) {
            throw failure("PROFILE_INVALID", file + ": " + error.getOriginalMessage());
        } catch (IOException error) {
            throw failure(
                    "PROFILE_NOT_FOUND",
                    file + " cannot be read; `strongroom profile create NAME HOST:PORT` makes one, and so does `make run`");
        }
        String wanted = name.isEmpty() ? document.path("current").asText("") : name;
        JsonNode profile = document.path("profiles").path(wanted);
        if (!profile.isObject()) {
            throw failure("PROFILE_NOT_FOUND", "there is no profile '" + wanted + "' in " + file);
        }
        Map<Service, String> endpoints = new EnumMap<>(Service.class);
        for (Service service : Service.values()) {
            String address = profile.path("endpoints").path(service.id()).asText("");
            if (!address.isEmpty()) {
                endpoints.put(service, address);
            }
        }
        return new Profile(
                profile.path("account").asText(""),
                endpoints,
                path(file, profile, "trust"),
                credentials(file, profile),
                profile.path("session_name").asText(""));
    }

    /** Who calls: a session token of the environment goes before what the profile says, and assumes its role, too. */
    private static Credentials credentials(Path file, JsonNode profile) {
        String token = environment("STRONGROOM_TOKEN").strip();
        Credentials own = token.isEmpty() ? own(file, profile) : new Credentials.SessionToken(token);
        String role = profile.path("role").asText("");
        if (own == null || role.isEmpty()) {
            return own;
        }
        if (!role.startsWith("accounts/")) {
            String id = role.startsWith("roles/") ? role : "roles/" + role;
            role = "accounts/" + profile.path("account").asText("") + "/" + id;
        }
        return new Credentials.AssumedRole(own, role, profile.path("external_id").asText(""));
    }

    private static Credentials own(Path file, JsonNode profile) {
        Path certificate = path(file, profile, "certificate");
        Path key = path(file, profile, "key");
        Path secret = path(file, profile, "client_key_secret_file");
        Path token = path(file, profile, "oidc_token_file");
        String clientKey = profile.path("client_key").asText("");
        if (!clientKey.isEmpty() && secret != null) {
            return new Credentials.ClientKeySession(clientKey, secret);
        }
        if (token != null) {
            return new Credentials.OidcTokenSession(profile.path("account").asText(""), token);
        }
        if (certificate == null || key == null) {
            return null;
        }
        return profile.path("session").asBoolean(false)
                ? new Credentials.CertificateSession(certificate, key)
                : new Credentials.ClientCertificate(certificate, key);
    }

    private static Path path() {
        String chosen = environment("STRONGROOM_CONFIG");
        if (!chosen.isEmpty()) {
            return Path.of(chosen);
        }
        String home = environment("XDG_CONFIG_HOME");
        Path directory = home.isEmpty() ? Path.of(System.getProperty("user.home"), ".config") : Path.of(home);
        return directory.resolve("strongroom").resolve("profiles.toml");
    }

    /** Relative to the file, so that profile and certificates can be handed on in one directory. */
    private static Path path(Path file, JsonNode profile, String field) {
        String text = profile.path(field).asText("");
        if (text.isEmpty()) {
            return null;
        }
        if (text.startsWith("~/")) {
            return Path.of(System.getProperty("user.home"), text.substring(2));
        }
        return file.resolveSibling(text);
    }

    private static String environment(String variable) {
        String value = System.getenv(variable);
        return value == null ? "" : value;
    }

    private static StrongroomException failure(String reason, String explanation) {
        return new StrongroomException(reason, explanation, "FAILED_PRECONDITION", "profile");
    }
}
