// Uses a Vault through HashiCorp's own Go package: VAULT_ADDR, VAULT_TOKEN and VAULT_CACERT say which. Its arguments are
// the name of a transit key to make and the path of a secret to write; it prints "ok" when everything was as with Vault.
package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/getsops/sops/v3/hcvault"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
)

func main() {
	log.SetFlags(0)
	client, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		log.Fatal(err)
	}
	key, path := os.Args[1], os.Args[2]
	checkHealth(client)
	checkTransit(client, key)
	checkKV(client, path)
	checkSops(client, key)
	checkLogin(client)
	fmt.Println("ok")
}

func checkHealth(client *api.Client) {
	health, err := client.Sys().Health()
	if err != nil || !health.Initialized || health.Sealed {
		log.Fatalf("health: %+v, %v", health, err)
	}
	mounts, err := client.Sys().ListMounts()
	if err != nil || mounts["secret/"] == nil || mounts["secret/"].Options["version"] != "2" {
		log.Fatalf("mounts: %+v, %v", mounts, err)
	}
}

func checkTransit(client *api.Client, key string) {
	logical := client.Logical()
	if _, err := logical.Write("transit/keys/"+key, nil); err != nil {
		log.Fatal(err)
	}
	plaintext := base64.StdEncoding.EncodeToString([]byte("plaintext"))
	made, err := logical.Write("transit/encrypt/"+key, map[string]interface{}{"plaintext": plaintext})
	if err != nil {
		log.Fatal(err)
	}
	opened, err := logical.Write("transit/decrypt/"+key, map[string]interface{}{"ciphertext": made.Data["ciphertext"]})
	if err != nil || opened.Data["plaintext"] != plaintext {
		log.Fatalf("decrypt: %+v, %v", opened, err)
	}
	listed, err := logical.List("transit/keys")
	if err != nil || listed == nil {
		log.Fatalf("list: %+v, %v", listed, err)
	}
}

func checkKV(client *api.Client, path string) {
	ctx, kv := context.Background(), client.KVv2("secret")
	if _, err := kv.Put(ctx, path, map[string]interface{}{"a": "1", "b": "2"}, api.WithCheckAndSet(0)); err != nil {
		log.Fatal(err)
	}
	if _, err := kv.Patch(ctx, path, map[string]interface{}{"b": "3"}); err != nil {
		log.Fatal(err)
	}
	read, err := kv.Get(ctx, path)
	if err != nil || read.Data["b"] != "3" || read.VersionMetadata.Version != 2 {
		log.Fatalf("get: %+v, %v", read, err)
	}
	first, err := kv.GetVersion(ctx, path, 1)
	if err != nil || first.Data["b"] != "2" {
		log.Fatalf("get version: %+v, %v", first, err)
	}
	if err := kv.DeleteVersions(ctx, path, []int{1}); err != nil {
		log.Fatal(err)
	}
	versions, err := kv.GetVersionsAsList(ctx, path)
	if err != nil || len(versions) != 2 || versions[0].DeletionTime.IsZero() {
		log.Fatalf("versions: %+v, %v", versions, err)
	}
	if _, err := kv.Get(ctx, path+"-absent"); !errors.Is(err, api.ErrSecretNotFound) {
		log.Fatalf("absent: %v", err)
	}
}

// What SOPS itself does with a file's data key under `hc_vault_transit`, before and after the key is rotated.
func checkSops(client *api.Client, key string) {
	master := hcvault.NewMasterKey(client.Address(), "transit", key)
	dataKey := []byte("0123456789abcdef0123456789abcdef")
	if err := master.Encrypt(dataKey); err != nil {
		log.Fatal(err)
	}
	if _, err := client.Logical().Write("transit/keys/"+key+"/rotate", nil); err != nil {
		log.Fatal(err)
	}
	opened, err := master.Decrypt()
	if err != nil || string(opened) != string(dataKey) {
		log.Fatalf("sops: %v", err)
	}
	if err := master.Encrypt(dataKey); err != nil || !strings.HasPrefix(string(master.EncryptedDataKey()), "vault:v2:") {
		log.Fatalf("sops after rotation: %v, %s", err, master.EncryptedDataKey())
	}
}

func checkLogin(client *api.Client) {
	role, err := approle.NewAppRoleAuth(os.Getenv("ROLE_ID"), &approle.SecretID{FromEnv: "SECRET_ID"})
	if err != nil {
		log.Fatal(err)
	}
	login, err := client.Auth().Login(context.Background(), role)
	if err != nil || login.Auth.LeaseDuration <= 0 {
		log.Fatalf("login: %+v, %v", login, err)
	}
	if _, err := client.Auth().Token().LookupSelf(); err != nil {
		log.Fatal(err)
	}
	client.SetToken("nonsense")
	_, err = client.Auth().Token().LookupSelf()
	var refused *api.ResponseError
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusForbidden {
		log.Fatalf("a wrong token: %v", err)
	}
}
