"""Encrypted fields of Django's models."""

from __future__ import annotations

import django
import pytest
from django.conf import settings
from django.core.exceptions import FieldError
from django.db import connection, models

from strongroom.encryption import DataKeyCache, EncryptionClient
from strongroom.encryption.adapters.django_fields import EncryptedBinaryField, EncryptedTextField
from strongroom.errors import StrongroomError
from tests.support.mesh_keys import MeshKeys


def test_values_are_encrypted_and_read_and_stay_in_their_fields() -> None:
    settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}, USE_TZ=True)
    django.setup()
    encryption = EncryptionClient(MeshKeys(), keys="payments", cache=DataKeyCache())

    class Customer(models.Model):  # type: ignore[misc]
        email = EncryptedTextField(encryption, {"field": "email"}, null=True)
        photo = EncryptedBinaryField(encryption, {"field": "photo"}, null=True)

        class Meta:
            app_label = "customers"

    with connection.schema_editor() as editor:
        editor.create_model(Customer)
    Customer.objects.create(email="a@x", photo=b"\xff")
    Customer.objects.create()
    first, empty = Customer.objects.order_by("id")
    assert (first.email, first.photo) == ("a@x", b"\xff")
    assert (empty.email, empty.photo) == (None, None)
    assert Customer.objects.filter(email__isnull=True).count() == 1
    with pytest.raises(FieldError):
        Customer.objects.filter(email="a@x").count()
    with connection.cursor() as cursor:
        (stored,) = cursor.execute("select email from customers_customer where id = 1").fetchone()
        assert b"a@x" not in stored
        cursor.execute("update customers_customer set photo = email where id = 1")
    with pytest.raises(StrongroomError) as refused:
        Customer.objects.get(id=1)
    assert refused.value.reason == "CONTEXT_MISMATCH"
    assert "encryption" not in EncryptedTextField(encryption).deconstruct()[3]
    connection.close()
